-- What is known of the CRM's tasks and calls, as a copy that can be asked without asking the CRM.

CREATE FUNCTION resilient_agents_touch() RETURNS trigger LANGUAGE plpgsql
SET search_path = '' AS $$
BEGIN
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END
$$;

CREATE TABLE crm_tasks (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization_id text NOT NULL,
    provider text NOT NULL DEFAULT 'kommo',
    external_id text NOT NULL,                 -- what the CRM calls it
    entity_type text,                          -- lead, contact, company
    entity_id text,
    responsible_id text,
    kind text,                                 -- call, meeting, ...
    description text,
    due_at timestamptz,
    completed_at timestamptz,
    data jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (organization_id, provider, external_id)
);

CREATE INDEX crm_tasks_open ON crm_tasks (organization_id, due_at) WHERE completed_at IS NULL;
CREATE INDEX crm_tasks_entity ON crm_tasks (organization_id, entity_type, entity_id);
CREATE TRIGGER crm_tasks_touch BEFORE UPDATE ON crm_tasks FOR EACH ROW EXECUTE FUNCTION resilient_agents_touch();

CREATE TABLE crm_calls (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization_id text NOT NULL,
    provider text NOT NULL DEFAULT 'kommo',
    external_id text NOT NULL,
    entity_type text,
    entity_id text,
    responsible_id text,
    direction text NOT NULL CHECK (direction IN ('inbound', 'outbound')),
    status text,
    phone text,
    duration_seconds integer CHECK (duration_seconds >= 0),
    recording_url text,
    started_at timestamptz NOT NULL,
    data jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (organization_id, provider, external_id)
);

CREATE INDEX crm_calls_started ON crm_calls (organization_id, started_at DESC);
CREATE INDEX crm_calls_entity ON crm_calls (organization_id, entity_type, entity_id);
CREATE TRIGGER crm_calls_touch BEFORE UPDATE ON crm_calls FOR EACH ROW EXECUTE FUNCTION resilient_agents_touch();

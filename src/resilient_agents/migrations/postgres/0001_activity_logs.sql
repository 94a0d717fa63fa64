-- What the agents did. Ids are UUIDv7 (RFC 9562): they are in the order of time.
CREATE TABLE IF NOT EXISTS activity_logs (
    id uuid PRIMARY KEY,
    source text NOT NULL,
    organization_id text NOT NULL,
    agent_id text,
    action text NOT NULL,
    status text NOT NULL,
    duration_ms double precision,
    request_id text,
    job_id text,
    error_code text,
    error_category text,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    inserted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS activity_logs_feed ON activity_logs (organization_id, id);

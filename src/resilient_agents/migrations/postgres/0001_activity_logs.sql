-- What the agents did. Rows are written once and never changed.

CREATE TABLE activity_logs (
    id uuid PRIMARY KEY,                       -- UUIDv7: sorts by time
    source text NOT NULL,                      -- which process recorded it
    organization_id text NOT NULL,
    agent_id text,
    action text NOT NULL,                      -- agent.created, action.executed, ...
    status text NOT NULL,
    duration_ms double precision,
    request_id text,
    job_id text,
    error_code text,
    error_category text,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,           -- when it happened
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()  -- when it arrived here
);

CREATE INDEX activity_logs_feed ON activity_logs (organization_id, recorded_at DESC, id DESC);
CREATE INDEX activity_logs_agent ON activity_logs (organization_id, agent_id, recorded_at DESC, id DESC);

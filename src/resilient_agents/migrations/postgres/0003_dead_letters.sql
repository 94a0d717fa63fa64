-- Work that must arrive, and the ledger of what did. The columns are those of the queue's SQLite file.

CREATE TABLE dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization_id text,                      -- NULL: work of the service itself, which no organisation sees
    topic text NOT NULL,
    key text NOT NULL,                         -- idempotency key, unique within the topic
    ordering_key text,
    payload jsonb NOT NULL,
    state text NOT NULL DEFAULT 'pending'
        CHECK (state IN ('pending', 'leased', 'scheduled', 'uncertain', 'parked')),
    due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts integer NOT NULL DEFAULT 0,
    errors integer NOT NULL DEFAULT 0,
    crashes integer NOT NULL DEFAULT 0,
    token bigint NOT NULL DEFAULT 0,           -- fencing token of the newest lease
    lease_until timestamptz,
    sent_at timestamptz,                       -- when it may have been sent without an answer
    code text,
    last_error text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (topic, key)
);

CREATE INDEX dead_letters_due ON dead_letters (topic, due_at, id)
    WHERE state IN ('pending', 'scheduled', 'uncertain');
CREATE INDEX dead_letters_leased ON dead_letters (lease_until) WHERE state = 'leased';
CREATE INDEX dead_letters_order ON dead_letters (topic, ordering_key, id) WHERE ordering_key IS NOT NULL;
CREATE INDEX dead_letters_organization ON dead_letters (organization_id, id DESC);
CREATE TRIGGER dead_letters_touch BEFORE UPDATE ON dead_letters
    FOR EACH ROW EXECUTE FUNCTION resilient_agents_touch();

CREATE TABLE dead_letter_ledger (
    topic text NOT NULL,
    key text NOT NULL,
    organization_id text,
    entry_id bigint NOT NULL,
    digest bytea NOT NULL,                     -- tells two payloads under one key apart
    ordering_key text,
    attempts integer NOT NULL,
    crashes integer NOT NULL,
    reference text,                            -- what the target calls it
    accepted_at timestamptz NOT NULL,
    confirmed_at timestamptz NOT NULL,
    PRIMARY KEY (topic, key)
);

CREATE INDEX dead_letter_ledger_confirmed ON dead_letter_ledger (confirmed_at);

-- An organisation sees its own rows and no others.
--
-- The owner of the tables, which the service itself connects as, is not restricted. Everybody else is: a role that
-- reads for one organisation says for which, in each transaction:
--
--     SELECT set_config('resilient_agents.organization_id', 'org-7', true);
--
-- Supabase's roles say it with the claims of their token. Where there are claims, nothing else counts. The claim must be
-- one that users cannot write: organization_id of the token itself or of its app_metadata, never of user_metadata.

CREATE FUNCTION resilient_agents_organization() RETURNS text LANGUAGE sql STABLE
SET search_path = '' AS $$
    SELECT CASE
        WHEN nullif(pg_catalog.current_setting('request.jwt.claims', true), '') IS NULL
            THEN nullif(pg_catalog.current_setting('resilient_agents.organization_id', true), '')
        ELSE nullif(coalesce(
            pg_catalog.current_setting('request.jwt.claims', true)::jsonb ->> 'organization_id',
            pg_catalog.current_setting('request.jwt.claims', true)::jsonb #>> '{app_metadata,organization_id}'
        ), '')
    END
$$;

-- Whoever may ask a table must be able to ask this, also where new functions are nobody's by default.
GRANT EXECUTE ON FUNCTION resilient_agents_organization() TO PUBLIC;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['activity_logs', 'crm_tasks', 'crm_calls', 'dead_letters', 'dead_letter_ledger'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        -- The sub-select is evaluated once a statement, not once a row.
        EXECUTE format(
            'CREATE POLICY organization ON %I USING (organization_id = (SELECT resilient_agents_organization()))'
            ' WITH CHECK (organization_id = (SELECT resilient_agents_organization()))', name);
        -- Supabase grants everything on new tables to everybody.
        IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'anon') THEN
            EXECUTE format('REVOKE ALL ON %I FROM anon', name);
        END IF;
        IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'authenticated') THEN
            EXECUTE format('REVOKE ALL ON %I FROM authenticated', name);
            IF name IN ('activity_logs', 'crm_tasks', 'crm_calls') THEN
                EXECUTE format('GRANT SELECT ON %I TO authenticated', name);
            END IF;
        END IF;
        IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'service_role') THEN
            EXECUTE format('GRANT ALL ON %I TO service_role', name);
        END IF;
    END LOOP;
END
$$;

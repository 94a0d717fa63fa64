"""Migrations on a real PostgreSQL: once, in order, whole; and an organisation sees its own rows alone."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from traceback import format_exception
from typing import Any

import psycopg
import pytest
from psycopg import sql

from resilient_agents import migrations
from resilient_agents.errors import ConfigurationError, Unreachable
from resilient_agents.migrations import Migration, load, migrate

TABLES = ("activity_logs", "crm_calls", "crm_tasks", "dead_letter_ledger", "dead_letters")
ROWS = {
    "activity_logs": "INSERT INTO activity_logs (id, source, organization_id, action, status, created_at)"
    " VALUES (gen_random_uuid(), 's', %s, 'agent.created', 'ok', now())",
    "crm_calls": "INSERT INTO crm_calls (organization_id, external_id, direction, started_at)"
    " VALUES (%s, '1', 'inbound', now())",
    "crm_tasks": "INSERT INTO crm_tasks (organization_id, external_id) VALUES (%s, '1')",
    "dead_letter_ledger": "INSERT INTO dead_letter_ledger (organization_id, topic, key, entry_id, digest,"
    " attempts, crashes, accepted_at, confirmed_at)"
    " VALUES (%s, 't', gen_random_uuid(), 1, '', 1, 0, now(), now())",
    "dead_letters": "INSERT INTO dead_letters (organization_id, topic, key, payload)"
    " VALUES (%s, 't', gen_random_uuid(), '{}')",
}
ORGANIZATIONS = ("ours", "theirs")


def rows(url: str, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Return what a statement finds."""
    with psycopg.connect(url) as connection:
        return connection.execute(statement.encode(), parameters).fetchall()


def tables(url: str) -> set[str]:
    """Return the names of the tables of a database, that of the history aside."""
    found = rows(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {name for (name,) in found} - {"resilient_agents_migrations"}


class TestMigrate:
    """A database comes to have the tables once, whoever asks how often."""

    def test_brings_every_table(self, postgres_url: str) -> None:
        """An empty database gets all migrations, in their order."""
        applied = migrate(postgres_url)

        assert [1, 2, 3, 4] == [migration.number for migration in applied]
        assert {*TABLES} == tables(postgres_url)

    def test_twice_is_once(self, postgres_url: str) -> None:
        """A second run finds nothing to do."""
        migrate(postgres_url)

        assert [] == migrate(postgres_url)

    def test_dry_run_changes_nothing(self, postgres_url: str) -> None:
        """A dry run says what is missing, and leaves not even a history behind."""
        missing = migrate(postgres_url, dry_run=True)

        assert load() == missing
        assert [(None,)] == rows(postgres_url, "SELECT to_regclass('resilient_agents_migrations')")

    def test_two_at_once(self, postgres_url: str) -> None:
        """Of four that start together one does it all, and the others find it done."""
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(migrate, [postgres_url] * 4))

        assert [0, 0, 0, 4] == sorted(map(len, results))

    def test_a_running_migration_is_not_waited_for_forever(self, postgres_url: str) -> None:
        """When the lock cannot be had in time, it says so."""
        with psycopg.connect(postgres_url) as other:
            other.execute("SELECT pg_advisory_xact_lock(%s)", [migrations._LOCK])

            with pytest.raises(Unreachable, match="try again later"):
                migrate(postgres_url, patience=0.05)

    def test_all_or_nothing(self, postgres_url: str) -> None:
        """A table in the way stops it, and nothing of the migrations before is left."""
        with psycopg.connect(postgres_url) as connection:
            connection.execute("CREATE TABLE dead_letters (id integer)")

        with pytest.raises(ConfigurationError, match="there already"):
            migrate(postgres_url)

        assert {"dead_letters"} == tables(postgres_url)

    def test_a_changed_file_is_refused(self, postgres_url: str) -> None:
        """A migration that was changed after it was applied is named, and nothing is done."""
        migrate(postgres_url)
        with psycopg.connect(postgres_url) as connection:
            connection.execute("UPDATE resilient_agents_migrations SET checksum = 'x' WHERE number = 2")

        with pytest.raises(ConfigurationError, match=r"migration 2 \(crm\) was changed"):
            migrate(postgres_url)

    def test_a_database_that_is_ahead_is_refused(self, postgres_url: str) -> None:
        """An old version does not touch the tables of a newer one."""
        migrate(postgres_url)
        with psycopg.connect(postgres_url) as connection:
            connection.execute(
                "INSERT INTO resilient_agents_migrations (number, name, checksum) VALUES (99, 'next', 'x')"
            )

        with pytest.raises(ConfigurationError, match="migration 99"):
            migrate(postgres_url)

    def test_who_may_not(self, postgres_url: str) -> None:
        """A user without the right to create tables is told so."""
        with psycopg.connect(postgres_url) as connection:
            connection.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
            connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")

            try:
                connection.commit()
                with pytest.raises(ConfigurationError, match="may not create"):
                    migrate(postgres_url.replace("postgres:opensesame", "guest:guest"))
            finally:
                connection.execute("DROP ROLE guest")

    def test_a_function_in_the_way(self, postgres_url: str) -> None:
        """A function of a name that a migration creates is told of as a table is."""
        with psycopg.connect(postgres_url) as connection:
            connection.execute(
                "CREATE FUNCTION resilient_agents_touch() RETURNS trigger LANGUAGE plpgsql"
                " AS 'BEGIN RETURN NEW; END'"
            )

        with pytest.raises(ConfigurationError, match="there already"):
            migrate(postgres_url)

    def test_no_schema(self, postgres_url: str) -> None:
        """A search_path of schemas that nobody has made is named as the reason."""
        with pytest.raises(ConfigurationError, match="search_path"):
            migrate(f"{postgres_url}&options=-csearch_path%3Dnowhere")

    def test_a_database_that_is_read_only(self, postgres_url: str) -> None:
        """What cannot be written to, such as a replica, is said to be so; asking what is missing works."""
        url = f"{postgres_url}&options=-cdefault_transaction_read_only%3Don"

        assert load() == migrate(url, dry_run=True)
        with pytest.raises(ConfigurationError, match="read-only"):
            migrate(url)

    def test_a_connection_that_is_lost(self, postgres_url: str) -> None:
        """A server that goes away in the middle is unreachable, and not a defect."""
        with psycopg.connect(postgres_url, autocommit=True) as other, ThreadPoolExecutor(1) as pool:
            other.execute("SELECT pg_advisory_lock(%s)", [migrations._LOCK])
            migration = pool.submit(migrate, postgres_url)
            waiting = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while not (found := other.execute(waiting).fetchall()):
                assert not migration.done()
            other.execute("SELECT pg_terminate_backend(%s)", found[0])

            with pytest.raises(Unreachable, match="connection to the database was lost"):
                migration.result()

    def test_a_schema_of_its_own(self, postgres_url: str) -> None:
        """Two schemas of one database are migrated each for itself, wherever else one looks."""
        migrate(postgres_url)
        with psycopg.connect(postgres_url) as connection:
            connection.execute("CREATE SCHEMA service")
        url = f"{postgres_url}&options=-csearch_path%3Dservice,public"

        assert load() == migrate(url, dry_run=True)
        assert load() == migrate(url)
        assert [] == migrate(url, dry_run=True)

    @pytest.mark.parametrize("patience", [0, -1, float("inf"), float("nan")])
    def test_patience(self, patience: float) -> None:
        """PostgreSQL would take no time at all for all the time in the world."""
        with pytest.raises(ValueError, match="patience"):
            migrate("postgresql://127.0.0.1:1/db", patience=patience)

    @pytest.mark.parametrize("url", ["postgresql://me:hidden@[/db", "me:hidden"])
    def test_a_password_in_what_cannot_be_read(self, url: str) -> None:
        """A traceback of an address that cannot be read does not show it."""
        with pytest.raises(ConfigurationError) as caught:
            migrate(url)

        assert "hidden" not in "".join(format_exception(caught.value))

    @pytest.mark.parametrize(
        ("url", "kind"),
        [
            ("postgresql://me:hidden@127.0.0.1:1/db", Unreachable),
            ("postgresql://me:hidden@[/db", ConfigurationError),
            ("not a url", ConfigurationError),
        ],
    )
    def test_no_database(self, url: str, kind: type[Exception]) -> None:
        """What cannot be connected to is an error in words, without the password."""
        with pytest.raises(kind) as caught:
            migrate(url)

        assert "hidden" not in str(caught.value)

    def test_files_are_in_order(self) -> None:
        """The files are numbered from 1 without a gap, and have a name and statements."""
        known = load()

        assert list(range(1, len(known) + 1)) == [migration.number for migration in known]
        assert all(migration.name and "CREATE" in migration.sql for migration in known)
        assert "CREATE" not in repr(Migration(number=1, name="a", sql="CREATE"))


def test_updated_at_is_kept(postgres_url: str) -> None:
    """A change of a row moves its updated_at, whatever the statement says."""
    migrate(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        for table in ("crm_tasks", "crm_calls", "dead_letters"):
            connection.execute(ROWS[table].encode(), ["ours"])
            changed = connection.execute(
                sql.SQL(
                    "UPDATE {} SET organization_id = 'ours', updated_at = '2000-01-01'"
                    " RETURNING updated_at > created_at"
                ).format(sql.Identifier(table))
            ).fetchone()

            assert (True,) == changed


@pytest.fixture
def shared(postgres_url: str) -> Iterator[str]:
    """Return the URL of a database like Supabase's, with a row of two organisations in each table."""
    with psycopg.connect(postgres_url) as connection:
        for role in ("anon", "authenticated", "service_role BYPASSRLS", "reader"):
            name, _, option = role.partition(" ")
            connection.execute(f"DROP ROLE IF EXISTS {name}".encode())
            connection.execute(f"CREATE ROLE {name} {option}".encode())
        connection.execute(
            "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO anon, authenticated, service_role, reader"
        )
    migrate(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        for statement in ROWS.values():
            for organization in ORGANIZATIONS:
                connection.execute(statement.encode(), [organization])
    yield postgres_url
    with psycopg.connect(postgres_url) as connection:
        for name in ("anon", "authenticated", "service_role", "reader"):
            connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())


def seen(url: str, role: str, table: str, **settings: str) -> list[str]:
    """Return the organisations of the rows that a role sees in a table, under some settings."""
    with psycopg.connect(url) as connection:
        for name, value in settings.items():
            connection.execute("SELECT set_config(%s, %s, false)", [name.replace("__", "."), value])
        connection.execute(f"SET ROLE {role}".encode())
        found = connection.execute(f"SELECT organization_id FROM {table} ORDER BY 1".encode())
        return [organization for (organization,) in found]


def claims(**claims: Any) -> dict[str, str]:
    """Return what Supabase sets for a request with a token of these claims."""
    return {"request__jwt__claims": json.dumps(claims)}


class TestRowLevelSecurity:
    """Two organisations in one database do not see each other."""

    @pytest.mark.parametrize("table", TABLES)
    def test_a_reader_sees_the_organisation_it_names(self, shared: str, table: str) -> None:
        """Another role than the owner sees the rows of the organisation it has named, and none without."""
        named = seen(shared, "reader", table, resilient_agents__organization_id="ours")

        assert (["ours"], []) == (named, seen(shared, "reader", table))

    @pytest.mark.parametrize("table", TABLES)
    def test_nobody_writes_for_another(self, shared: str, table: str) -> None:
        """A row of another organisation can be neither written, nor changed, nor deleted."""
        with psycopg.connect(shared) as connection:
            connection.execute("SELECT set_config('resilient_agents.organization_id', 'ours', false)")
            connection.execute("SET ROLE reader")
            connection.commit()

            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(ROWS[table].encode(), ["theirs"])
            connection.rollback()
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"UPDATE {table} SET organization_id = 'theirs'".encode())
            connection.rollback()
            deleted = connection.execute(f"DELETE FROM {table} WHERE organization_id = 'theirs'".encode())

            assert 0 == deleted.rowcount

    @pytest.mark.parametrize("table", ["activity_logs", "crm_calls", "crm_tasks"])
    @pytest.mark.parametrize(
        "token",
        [{"organization_id": "ours"}, {"app_metadata": {"organization_id": "ours"}}],
        ids=["claim", "app_metadata"],
    )
    def test_supabase_user(self, shared: str, table: str, token: dict[str, Any]) -> None:
        """A signed-in user sees the rows of the organisation in the token."""
        assert ["ours"] == seen(shared, "authenticated", table, **claims(**token))

    @pytest.mark.parametrize(
        "token",
        [
            {},
            {"user_metadata": {"organization_id": "theirs"}},
            {"organization_id": ""},
            {"app_metadata": {}},
        ],
    )
    def test_a_token_without_an_organisation_sees_nothing(self, shared: str, token: dict[str, Any]) -> None:
        """What users can write themselves names no organisation, and neither does the setting of others."""
        setting = {"resilient_agents__organization_id": "theirs"}

        assert [] == seen(shared, "authenticated", "activity_logs", **claims(sub="u", **token), **setting)

    @pytest.mark.parametrize("table", TABLES)
    def test_supabase_anonymous(self, shared: str, table: str) -> None:
        """Who is not signed in may not even ask."""
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            seen(shared, "anon", table)

    @pytest.mark.parametrize("role", ["anon", "authenticated"])
    @pytest.mark.parametrize("right", ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"])
    def test_the_history_is_nobodys(self, shared: str, role: str, right: str) -> None:
        """Nobody from outside reads or forges which migrations were applied."""
        having = "SELECT has_table_privilege(%s, 'resilient_agents_migrations', %s)"

        assert [(False,)] == rows(shared, having, role, right)

    @pytest.mark.parametrize("right", ["TRUNCATE", "REFERENCES", "TRIGGER"])
    @pytest.mark.parametrize("table", TABLES)
    def test_rights_beside_the_rows(self, shared: str, table: str, right: str) -> None:
        """Row-level security does not hold these rights, so that nobody from outside may have them."""
        having = "SELECT has_table_privilege(role, %s, %s) FROM unnest(ARRAY['anon', 'authenticated']) role"

        assert [(False,)] * 2 == rows(shared, having, table, right)

    def test_functions_of_nobody(self, shared: str) -> None:
        """Where new functions are nobody's by default, the tables can be asked all the same."""
        with psycopg.connect(shared) as connection:
            connection.execute("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
            connection.execute("CREATE SCHEMA strict; GRANT USAGE ON SCHEMA strict TO authenticated")
        migrate(f"{shared}&options=-csearch_path%3Dstrict")

        assert [] == seen(shared, "authenticated", "strict.activity_logs", **claims(organization_id="ours"))

    def test_functions_look_nowhere_else(self, shared: str) -> None:
        """No function of a migration can be misled by its caller's search_path."""
        found = rows(
            shared, "SELECT proname FROM pg_proc WHERE proname LIKE 'resilient%%' AND proconfig IS NULL"
        )

        assert [] == found

    @pytest.mark.parametrize("table", ["dead_letters", "dead_letter_ledger"])
    def test_dead_letters_are_not_for_users(self, shared: str, table: str) -> None:
        """A signed-in user reads no dead letters: they hold what people wrote."""
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            seen(shared, "authenticated", table, **claims(organization_id="ours"))

    @pytest.mark.parametrize("table", ["activity_logs", "crm_calls", "crm_tasks"])
    def test_a_user_writes_nothing(self, shared: str, table: str) -> None:
        """A signed-in user reads, and no more."""
        with psycopg.connect(shared) as connection:
            connection.execute("SET ROLE authenticated")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(ROWS[table].encode(), ["ours"])

    @pytest.mark.parametrize("role", ["service_role", "postgres"])
    @pytest.mark.parametrize("table", TABLES)
    def test_the_service_sees_all(self, shared: str, role: str, table: str) -> None:
        """The service itself, as the owner or as Supabase's service role, is not restricted."""
        assert [*ORGANIZATIONS] == seen(shared, role, table)

    @pytest.mark.parametrize("table", [*TABLES, "resilient_agents_migrations"])
    def test_every_table_is_secured(self, shared: str, table: str) -> None:
        """No table of a migration is left without row-level security."""
        secured = rows(shared, "SELECT relrowsecurity FROM pg_class WHERE oid = %s::regclass", table)

        assert [(True,)] == secured

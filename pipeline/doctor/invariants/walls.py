"""Invariants 13 and 15: workspaces stay apart, and no session holds a transaction open."""

import psycopg
from contracts.lifecycle import Role
from pipeline.doctor.invariants.checking import CheckContext, ViolationCounts, report_violations
from queues.database import one_value
from queues.schema import SCHEMA, login

# (child, its column, parent): every reference that names a row of the same workspace by its id.
_REFERENCES = (
    ("batches", "trigger_id", "triggers"),
    ("batches", "floor_id", "floors"),
    ("batch_rows", "batch_id", "batches"),
    ("batch_rows", "order_id", "orders"),
    ("orders", "batch_id", "batches"),
    ("orders", "pod_id", "pods"),
    ("items", "order_id", "orders"),
    ("items", "batch_id", "batches"),
    *((child, "item_id", "items") for child in ("queue", "archived_items", "moves", "attempts", "bodies", "proposals", "applies")),
    *((child, "item_id", "items") for child in ("artifacts", "artifact_inputs", "evidence", "verdicts", "findings")),
    *((child, "order_id", "orders") for child in ("queue", "archived_items", "proposals")),
    *((child, "pod_id", "pods") for child in ("queue", "archived_items")),
    ("clearances", "proposal_id", "proposals"),
    ("decisions", "proposal_id", "proposals"),
    ("decisions", "clearance_id", "clearances"),
    ("decisions", "actor_id", "actors"),
    ("applies", "proposal_id", "proposals"),
    ("roles", "actor_id", "actors"),
    ("tokens", "actor_id", "actors"),
)  # fmt: skip

_STRAYS = """
SELECT 13, '{child} of {parent} ' || p.id || ': ' || count(*) || ' rows belong to workspace ' || c.workspace_id
       || ', their parent to ' || p.workspace_id
  FROM {child} c JOIN {parent} p ON p.id = c.{column}
 WHERE p.workspace_id <> c.workspace_id
 GROUP BY p.id, c.workspace_id, p.workspace_id
"""


def check_workspaces(context: CheckContext, counts: ViolationCounts) -> None:
    """Note rows that belong to another workspace than the row they hang on."""
    for child, column, parent in _REFERENCES:
        report_violations(context, counts, _STRAYS.format(child=child, column=column, parent=parent))


# Partitions count as tables of their own: neither row security nor its force is inherited by them.
_SECURITY = """
WITH tables AS (
  SELECT c.oid, c.relname, c.relrowsecurity, c.relforcerowsecurity FROM pg_class c
   WHERE c.relnamespace = %(schema)s::regnamespace AND c.relkind IN ('r', 'p')
     AND (c.relname = 'workspaces'
          OR EXISTS (SELECT
                       FROM pg_attribute a
                      WHERE a.attrelid = c.oid AND a.attname = 'workspace_id' AND NOT a.attisdropped))),
logins AS (
  SELECT oid, rolname, rolsuper, rolbypassrls, rolcreaterole OR rolcreatedb OR rolreplication AS rolmore
    FROM pg_roles WHERE rolname = ANY (%(logins)s))
SELECT 13, 'table ' || relname || ': row security is ' || CASE WHEN NOT relrowsecurity THEN 'off'
                                                               ELSE 'not forced on its owner' END
  FROM tables WHERE NOT relrowsecurity OR NOT relforcerowsecurity
UNION ALL
SELECT 13, 'role ' || rolname || CASE WHEN rolsuper THEN ' is a superuser'
                                      WHEN rolbypassrls THEN ' can bypass row security'
                                      ELSE ' may make roles or databases, or replicate' END
  FROM logins WHERE rolsuper OR rolbypassrls OR rolmore
UNION ALL
SELECT 13,
       'role ' || rolname || ' may make temporary objects: REVOKE TEMPORARY ON DATABASE ' || current_database()
       || ' FROM PUBLIC'
  FROM logins WHERE has_database_privilege(oid, current_database(), 'TEMPORARY')
UNION ALL
SELECT 13, 'role ' || name || ' does not exist'
  FROM unnest(%(logins)s) AS name
 WHERE name NOT IN (SELECT rolname FROM logins)
UNION ALL
SELECT 13, 'role ' || l.rolname || ' is a member of ' || r.rolname
  FROM pg_auth_members m JOIN logins l ON l.oid = m.member JOIN pg_roles r ON r.oid = m.roleid
UNION ALL
SELECT 13, 'role ' || l.rolname || ' owns ' || o.what || ' ' || o.name FROM logins l JOIN (
    SELECT relowner AS owner, 'relation' AS what, relname::text AS name FROM pg_class
    UNION ALL SELECT proowner, 'function', proname::text FROM pg_proc
    UNION ALL SELECT nspowner, 'schema', nspname::text FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp'
    UNION ALL SELECT datdba, 'database', datname::text FROM pg_database) o ON o.owner = l.oid
"""


def check_security(context: CheckContext, counts: ViolationCounts) -> None:
    """Note workspace tables without forced row security, and application logins with more rights than theirs."""
    report_violations(context, counts, _SECURITY, {"schema": SCHEMA, "logins": [login(role) for role in Role]})


_MAY_SEE = "SELECT rolsuper OR pg_has_role(rolname, 'pg_read_all_stats', 'USAGE') FROM pg_roles WHERE rolname = current_user"
# Real time, not the clock that governs work: this is about sessions of the server.
_IDLE = """
SELECT coalesce(nullif(application_name, ''), 'a session')
       || ' (' || usename || ', pid ' || pid || ') holds a transaction open, idle for '
       || round(extract(epoch FROM clock_timestamp() - state_change)) || ' s'
  FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND pid <> %(mine)s
   AND starts_with(state, 'idle in transaction') AND clock_timestamp() - state_change > make_interval(secs => %(idle)s)
 ORDER BY pid
"""
_PREPARED = """
SELECT 'prepared transaction ' || gid || ' of ' || owner || ' since ' || prepared
  FROM pg_prepared_xacts WHERE database = current_database() ORDER BY prepared
"""


def check_sessions(context: CheckContext, counts: ViolationCounts) -> None:
    """Note sessions that are idle in a transaction, and prepared transactions; say so when other sessions cannot be seen."""
    for (text,) in context.conn.execute(_PREPARED):
        counts.add(15, text)
    watching = next((conn for conn in (context.monitor, context.conn) if conn is not None and _may_see(conn)), None)
    if watching is None:
        counts.unseen[15] = f"{login(Role.AUDIT)} may not see other sessions: needs SHOPFLOOR_DATABASE_URL, a login that may"
        return
    for (text,) in watching.execute(_IDLE, {"mine": context.conn.info.backend_pid, "idle": context.idle_seconds}):
        counts.add(15, text)


def _may_see(conn: psycopg.Connection) -> bool:
    return bool(one_value(conn, _MAY_SEE))

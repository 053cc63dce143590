-- Tables of tenants, published documents and taken-in rows. In all of these files, names after a dollar sign are
-- rendered from contracts/lifecycle.py. Ids are time-ordered UUIDs made by contracts/identity.py. Hashes are 32 raw
-- bytes of SHA-256. Anything hashed or approved is bytea: jsonb rewrites numbers and reorders keys.

-- With a parsed body, here and below: no search path, and so no caller, decides what its names mean.
CREATE FUNCTION clock() RETURNS timestamptz LANGUAGE sql STABLE
  RETURN transaction_timestamp();
COMMENT ON FUNCTION clock() IS
    'The database time that governs leases, due times and expiries; one value per transaction.';

CREATE FUNCTION workspaces_in_use() RETURNS uuid[] LANGUAGE sql STABLE
  RETURN string_to_array(nullif(current_setting('shopfloor.workspace', true), ''), ',')::uuid[];
COMMENT ON FUNCTION workspaces_in_use() IS
    'The workspaces of this transaction: one id, or several separated by commas. Unset: none.';

-- ------------------------------------------------------------------ tenants and people
CREATE TABLE workspaces (
  id uuid PRIMARY KEY,
  name text NOT NULL UNIQUE CHECK (name ~ '^[a-z][a-z0-9-]{0,62}$$'),
  timezone text NOT NULL DEFAULT 'UTC',
  created_at timestamptz NOT NULL DEFAULT clock());

CREATE TABLE pods (
  id uuid PRIMARY KEY,
  workspace_id uuid NOT NULL REFERENCES workspaces,
  name text NOT NULL,
  autonomy text NOT NULL DEFAULT 'draft_approve' CHECK (autonomy IN ('report_only', 'draft_approve', 'full_auto')),
  created_at timestamptz NOT NULL DEFAULT clock(),
  UNIQUE (workspace_id, id), UNIQUE (workspace_id, name));

CREATE TABLE actors (
  id uuid PRIMARY KEY,
  workspace_id uuid NOT NULL REFERENCES workspaces,
  name text NOT NULL CHECK (length(name) BETWEEN 1 AND 120),
  kind text NOT NULL CHECK (kind IN ('person', 'service')),
  disabled_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT clock(),
  UNIQUE (workspace_id, id), UNIQUE (workspace_id, name));

CREATE TABLE roles (
  workspace_id uuid NOT NULL,
  actor_id uuid NOT NULL,
  role text NOT NULL CHECK (role IN ('submitter', 'reviewer', 'operator', 'author', 'reader', 'admin')),
  PRIMARY KEY (actor_id, role),
  FOREIGN KEY (workspace_id, actor_id) REFERENCES actors (workspace_id, id));

CREATE TABLE tokens (
  id uuid PRIMARY KEY,
  workspace_id uuid NOT NULL,
  actor_id uuid NOT NULL,
  sha256 bytea NOT NULL UNIQUE CHECK (length(sha256) = 32),
  label text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock(),
  expires_at timestamptz,
  revoked_at timestamptz,
  FOREIGN KEY (workspace_id, actor_id) REFERENCES actors (workspace_id, id));

-- ------------------------------------------------------------------ what may be done, versioned and immutable
CREATE TABLE contracts (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL,
  version text NOT NULL,
  sha256 bytea NOT NULL CHECK (length(sha256) = 32),
  body bytea NOT NULL,
  published_at timestamptz NOT NULL DEFAULT clock(),
  published_by text NOT NULL,
  UNIQUE (name, version));

CREATE TABLE cells (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  contract_id integer NOT NULL UNIQUE REFERENCES contracts,
  source_sha256 bytea NOT NULL CHECK (length(source_sha256) = 32),
  soul text NOT NULL,
  published_at timestamptz NOT NULL DEFAULT clock());

CREATE TABLE floors (
  id uuid PRIMARY KEY,
  workspace_id uuid NOT NULL REFERENCES workspaces,
  sha256 bytea NOT NULL CHECK (length(sha256) = 32),
  body bytea NOT NULL,
  published_at timestamptz NOT NULL DEFAULT clock(),
  published_by text NOT NULL,
  UNIQUE (workspace_id, id));

-- ------------------------------------------------------------------ why work exists
CREATE TABLE triggers (
  id uuid PRIMARY KEY,
  workspace_id uuid NOT NULL REFERENCES workspaces,
  kind text NOT NULL CHECK (kind IN ('manual', 'batch', 'schedule', 'watch', 'webhook', 'event', 'approval')),
  source text NOT NULL,
  actor text NOT NULL,
  at timestamptz NOT NULL DEFAULT clock(),
  UNIQUE (workspace_id, id));

CREATE TABLE batches (
  id uuid PRIMARY KEY,
  workspace_id uuid NOT NULL,
  trigger_id uuid NOT NULL,
  floor_id uuid NOT NULL,
  flow text NOT NULL,
  source text NOT NULL,
  source_identity text NOT NULL,
  source_sha256 bytea,
  state text NOT NULL DEFAULT 'reading' CHECK (state IN ('reading', 'complete', 'failed', 'cancelled')),
  rows_read bigint NOT NULL DEFAULT 0,
  accepted bigint NOT NULL DEFAULT 0,
  rejected bigint NOT NULL DEFAULT 0,
  duplicate bigint NOT NULL DEFAULT 0,
  context bigint NOT NULL DEFAULT 0,
  superseded bigint NOT NULL DEFAULT 0,
  as_of timestamptz,
  submitter text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock(),
  read_at timestamptz NOT NULL DEFAULT clock(),
  finished_at timestamptz,
  error text NOT NULL DEFAULT '',
  UNIQUE (workspace_id, id),
  FOREIGN KEY (workspace_id, trigger_id) REFERENCES triggers (workspace_id, id),
  FOREIGN KEY (workspace_id, floor_id) REFERENCES floors (workspace_id, id),
  CHECK (rows_read = accepted + rejected + duplicate));
CREATE INDEX batches_source ON batches (source_identity, flow, workspace_id);
CREATE INDEX batches_reading ON batches (read_at) WHERE state = 'reading';

CREATE TABLE batch_rows (
  batch_id uuid NOT NULL,
  row_no bigint NOT NULL,
  workspace_id uuid NOT NULL,
  outcome text NOT NULL CHECK (outcome IN ('accepted', 'rejected', 'duplicate')),
  order_id uuid,
  line bigint NOT NULL,
  byte_offset bigint NOT NULL,
  subject_key text NOT NULL DEFAULT '',
  code text NOT NULL DEFAULT '',
  field text NOT NULL DEFAULT '',
  message text NOT NULL DEFAULT '',
  PRIMARY KEY (batch_id, row_no),
  CHECK ((outcome = 'accepted') <= (order_id IS NOT NULL AND code = '')),
  CHECK ((outcome = 'accepted') OR code <> '')
) PARTITION BY RANGE (batch_id);

CREATE TABLE orders (
  id uuid PRIMARY KEY,
  workspace_id uuid NOT NULL,
  batch_id uuid NOT NULL,
  pod_id uuid NOT NULL,
  flow text NOT NULL,
  goal text NOT NULL DEFAULT '',
  subject_key text NOT NULL,
  revision text NOT NULL,
  payload_sha256 bytea NOT NULL,
  state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done', 'refused', 'cancelled', 'superseded', 'dead')),
  finding text NOT NULL DEFAULT '',
  submitter text NOT NULL,
  cost_micros bigint NOT NULL DEFAULT 0,
  depth smallint NOT NULL DEFAULT 0 CHECK (depth BETWEEN 0 AND $max_depth),
  created_at timestamptz NOT NULL DEFAULT clock(),
  closed_at timestamptz,
  withdrawn_at timestamptz,  -- an operator took the revision back: later rows of the subject are not compared with it
  UNIQUE (workspace_id, id),
  FOREIGN KEY (workspace_id, batch_id) REFERENCES batches (workspace_id, id),
  FOREIGN KEY (workspace_id, pod_id) REFERENCES pods (workspace_id, id),
  CHECK ((state = 'open') = (closed_at IS NULL)),
  CHECK (withdrawn_at IS NULL OR state <> 'open'));
-- One order per subject and revision, for ever, unless it was withdrawn; and at most one open per subject. Two intakes
-- that race meet here: the second one sees the conflict, reads again, and decides again.
CREATE UNIQUE INDEX orders_revision ON orders (subject_key, flow, workspace_id, revision, withdrawn_at)
  NULLS NOT DISTINCT;
CREATE UNIQUE INDEX orders_open ON orders (subject_key, flow, workspace_id) WHERE state = 'open';

CREATE TABLE items (
  id uuid PRIMARY KEY,
  workspace_id uuid NOT NULL,
  order_id uuid NOT NULL,
  batch_id uuid NOT NULL,
  row_no bigint NOT NULL,
  flow text NOT NULL,
  payload_sha256 bytea NOT NULL,
  depth smallint NOT NULL DEFAULT 0 CHECK (depth BETWEEN 0 AND $max_depth),
  created_at timestamptz NOT NULL DEFAULT clock(),
  UNIQUE (workspace_id, id),
  FOREIGN KEY (workspace_id, order_id) REFERENCES orders (workspace_id, id));
CREATE INDEX items_order ON items (order_id);
CREATE INDEX items_batch ON items (batch_id);

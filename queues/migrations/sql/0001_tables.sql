-- Tables. Names after a dollar sign are rendered from contracts/lifecycle.py.
-- Ids are time-ordered UUIDs made by contracts/identity.py. Hashes are 32 raw bytes of SHA-256.
-- Anything hashed or approved is bytea: jsonb rewrites numbers and reorders keys.

-- With a parsed body, here and below: no search path, and so no caller, decides what its names mean.
CREATE FUNCTION clock() RETURNS timestamptz LANGUAGE sql STABLE
  RETURN transaction_timestamp();
COMMENT ON FUNCTION clock() IS 'The database time that governs leases, due times and expiries; one value per transaction.';

CREATE FUNCTION workspaces_in_use() RETURNS uuid[] LANGUAGE sql STABLE
  RETURN string_to_array(nullif(current_setting('shopfloor.workspace', true), ''), ',')::uuid[];
COMMENT ON FUNCTION workspaces_in_use() IS 'The workspaces of this transaction: one id, or several parted by commas. Unset: none.';

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
  contract_id integer NOT NULL REFERENCES contracts,
  source_sha256 bytea NOT NULL CHECK (length(source_sha256) = 32),
  soul text NOT NULL,
  published_at timestamptz NOT NULL DEFAULT clock(),
  UNIQUE (contract_id, source_sha256));

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
  UNIQUE (workspace_id, id),
  FOREIGN KEY (workspace_id, batch_id) REFERENCES batches (workspace_id, id),
  FOREIGN KEY (workspace_id, pod_id) REFERENCES pods (workspace_id, id),
  CHECK ((state = 'open') = (closed_at IS NULL)));
-- One order per subject and revision, for ever; and at most one open per subject. Two intakes that race
-- meet here: the second one sees the conflict, reads again, and decides again.
CREATE UNIQUE INDEX orders_revision ON orders (subject_key, flow, workspace_id, revision);
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

-- ------------------------------------------------------------------ the hot row
-- ready_lane repeats the lane while the item is ready and is null otherwise, so that a carried lease
-- (leased to leased, another lane) changes no indexed column and stays a HOT update.
CREATE TABLE queue (
  item_id uuid PRIMARY KEY,
  workspace_id uuid NOT NULL,
  order_id uuid NOT NULL,
  pod_id uuid NOT NULL,
  claim_id uuid,
  moved_at timestamptz NOT NULL,
  due_at timestamptz NOT NULL,
  fence integer NOT NULL DEFAULT 0,
  move_no integer NOT NULL,
  contract_id integer REFERENCES contracts,
  priority smallint NOT NULL DEFAULT 5 CHECK (priority BETWEEN 0 AND 9),
  crashes smallint NOT NULL DEFAULT 0,
  transients smallint NOT NULL DEFAULT 0,
  throttles smallint NOT NULL DEFAULT 0,
  contract_breaks smallint NOT NULL DEFAULT 0,
  qa_rejects smallint NOT NULL DEFAULT 0,
  drifts smallint NOT NULL DEFAULT 0,
  rounds smallint NOT NULL DEFAULT 0,
  stage text NOT NULL CHECK (stage IN ($stages)),
  state text NOT NULL CHECK (state IN ('ready', 'leased', 'waiting', 'dead')),
  lane text NOT NULL,
  ready_lane text,
  flow text NOT NULL,
  wait text CHECK (wait IN ($waits)),
  waiting_on text NOT NULL DEFAULT '',
  FOREIGN KEY (workspace_id, item_id) REFERENCES items (workspace_id, id),
  CHECK ((state = 'ready') = (ready_lane IS NOT NULL)),
  CHECK (ready_lane = lane),
  CHECK ((state = 'leased') = (claim_id IS NOT NULL)),
  CHECK ((state = 'waiting') = (wait IS NOT NULL))
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
        autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX queue_ready ON queue (ready_lane, workspace_id, pod_id, priority, due_at, item_id) WHERE ready_lane IS NOT NULL;
CREATE INDEX queue_suspects ON queue (ready_lane, workspace_id, pod_id, priority, due_at, item_id) WHERE ready_lane IS NOT NULL AND crashes > 0;
CREATE INDEX queue_claim ON queue (claim_id) WHERE claim_id IS NOT NULL;
CREATE INDEX queue_dependency ON queue (waiting_on) WHERE wait = 'dependency';

CREATE TABLE archived_items (
  item_id uuid PRIMARY KEY,
  workspace_id uuid NOT NULL,
  order_id uuid NOT NULL,
  pod_id uuid NOT NULL,
  fence integer NOT NULL,
  move_no integer NOT NULL,
  contract_id integer,
  rounds smallint NOT NULL DEFAULT 0,
  stage text NOT NULL CHECK (stage IN ($stages)),
  state text NOT NULL CHECK (state IN ($terminal)),
  lane text NOT NULL,
  flow text NOT NULL,
  finding text NOT NULL DEFAULT '',
  archived_at timestamptz NOT NULL
) PARTITION BY RANGE (item_id);

-- ------------------------------------------------------------------ history
CREATE TABLE legal_moves (
  number smallint PRIMARY KEY,
  move text NOT NULL,
  from_stage text NOT NULL, from_state text NOT NULL,
  to_stage text NOT NULL, to_state text NOT NULL,
  UNIQUE (move, from_stage, from_state, to_stage, to_state));

-- A move is stored as the number of its legal move: from and to cannot disagree with it.
CREATE TABLE moves (
  item_id uuid NOT NULL,
  workspace_id uuid NOT NULL,
  claim_id uuid,
  at timestamptz NOT NULL,
  no integer NOT NULL CHECK (no > 0),
  fence integer NOT NULL,
  legal smallint NOT NULL CHECK (legal IN ($legal)),
  actor text NOT NULL,
  reason text NOT NULL DEFAULT '',
  PRIMARY KEY (item_id, no)
) PARTITION BY RANGE (item_id);

-- One row per execution of somebody's code (a cell, an applier), written once when it ended.
CREATE TABLE attempts (
  item_id uuid NOT NULL,
  fence integer NOT NULL,
  workspace_id uuid NOT NULL,
  contract_id integer,
  started_at timestamptz NOT NULL,
  ended_at timestamptz NOT NULL,
  stage text NOT NULL CHECK (stage IN ($stages)),
  outcome text NOT NULL,
  cause text CHECK (cause IN ($causes)),
  input_sha256 bytea NOT NULL,
  output_sha256 bytea,
  message text NOT NULL DEFAULT '',
  traceback text NOT NULL DEFAULT '' CHECK (length(traceback) <= 4000),
  PRIMARY KEY (item_id, fence)
) PARTITION BY RANGE (item_id);

CREATE TABLE bodies (
  item_id uuid NOT NULL,
  sha256 bytea NOT NULL CHECK (length(sha256) = 32),
  workspace_id uuid NOT NULL,
  bytes bytea NOT NULL,
  PRIMARY KEY (item_id, sha256)
) PARTITION BY RANGE (item_id);
COMMENT ON TABLE bodies IS 'Payloads and small artifacts, apart from history, so that they can be erased.';
ALTER TABLE bodies ALTER COLUMN bytes SET STORAGE EXTENDED;

-- ------------------------------------------------------------------ who works
CREATE TABLE workers (
  id uuid PRIMARY KEY,
  name text NOT NULL,
  host text NOT NULL,
  pid integer NOT NULL,
  lanes text[] NOT NULL,
  runs bytea[] NOT NULL DEFAULT '{}',  -- hashes of the contracts that it has the code for
  login text NOT NULL DEFAULT current_user,
  started_at timestamptz NOT NULL DEFAULT clock(),
  beat_at timestamptz NOT NULL DEFAULT clock(),
  stopped_at timestamptz);

CREATE TABLE claims (
  id uuid PRIMARY KEY,
  worker_id uuid NOT NULL REFERENCES workers,
  lane text NOT NULL,
  opened_at timestamptz NOT NULL,
  beat_at timestamptz NOT NULL,
  until timestamptz NOT NULL,
  closed_at timestamptz,
  login text NOT NULL DEFAULT current_user
) WITH (fillfactor = 80);
CREATE INDEX claims_open ON claims (worker_id) WHERE closed_at IS NULL;

CREATE TABLE lanes (
  workspace_id uuid NOT NULL REFERENCES workspaces,
  name text NOT NULL,
  max_active integer CHECK (max_active >= 0),
  per_minute integer CHECK (per_minute >= 0),
  changed_at timestamptz NOT NULL DEFAULT clock(),
  changed_by text NOT NULL,
  PRIMARY KEY (workspace_id, name));

CREATE TABLE pauses (
  id uuid PRIMARY KEY,
  workspace_id uuid REFERENCES workspaces,
  kind text NOT NULL CHECK (kind IN ('all', 'workspace', 'pod', 'flow', 'lane', 'cell', 'order', 'item')),
  scope text NOT NULL,
  why text NOT NULL CHECK (why <> ''),
  actor text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock(),
  until timestamptz,
  lifted_at timestamptz,
  lifted_by text,
  CHECK ((kind = 'all') = (workspace_id IS NULL)));
CREATE INDEX pauses_active ON pauses (kind, scope) WHERE lifted_at IS NULL;

-- Throughput per lane and minute, one row per worker so that two workers never wait for each other here.
CREATE TABLE lane_minutes (
  workspace_id uuid NOT NULL,
  lane text NOT NULL,
  minute timestamptz NOT NULL,
  worker_id uuid NOT NULL,
  started bigint NOT NULL DEFAULT 0,  -- of lanes with a limit by the minute
  finished bigint NOT NULL DEFAULT 0,
  failed bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (minute, lane, workspace_id, worker_id));

-- ------------------------------------------------------------------ what work leaves behind
CREATE TABLE artifacts (
  item_id uuid NOT NULL,
  id uuid NOT NULL,
  workspace_id uuid NOT NULL,
  fence integer NOT NULL,
  contract_id integer,
  kind text NOT NULL,
  sha256 bytea NOT NULL CHECK (length(sha256) = 32),
  size_bytes bigint NOT NULL CHECK (size_bytes >= 0),
  store text NOT NULL CHECK (store IN ('row', 'disk')),
  created_at timestamptz NOT NULL,
  erased_at timestamptz,
  PRIMARY KEY (item_id, id)
) PARTITION BY RANGE (item_id);

CREATE TABLE artifact_inputs (
  item_id uuid NOT NULL,
  artifact_id uuid NOT NULL,
  workspace_id uuid NOT NULL,
  subject text NOT NULL,
  revision text NOT NULL,
  PRIMARY KEY (item_id, artifact_id, subject)
) PARTITION BY RANGE (item_id);

CREATE TABLE evidence (
  item_id uuid NOT NULL,
  artifact_id uuid NOT NULL,
  no smallint NOT NULL,
  workspace_id uuid NOT NULL,
  claim text NOT NULL,
  stance text NOT NULL CHECK (stance IN ('supports', 'contradicts', 'context')),
  confidence real NOT NULL CHECK (confidence BETWEEN 0 AND 1),
  source text NOT NULL,
  PRIMARY KEY (item_id, artifact_id, no)
) PARTITION BY RANGE (item_id);

CREATE TABLE verdicts (
  item_id uuid NOT NULL,
  id uuid NOT NULL,
  workspace_id uuid NOT NULL,
  fence integer NOT NULL,
  contract_id integer NOT NULL,
  artifact_sha256 bytea NOT NULL,
  passed boolean NOT NULL,
  body bytea NOT NULL,
  at timestamptz NOT NULL,
  PRIMARY KEY (item_id, id)
) PARTITION BY RANGE (item_id);

CREATE TABLE findings (
  item_id uuid NOT NULL,
  id uuid NOT NULL,
  workspace_id uuid NOT NULL,
  fence integer NOT NULL,
  stage text NOT NULL,
  code text NOT NULL,
  message text NOT NULL,
  place text NOT NULL DEFAULT '',
  at timestamptz NOT NULL,
  PRIMARY KEY (item_id, id)
) PARTITION BY RANGE (item_id);

-- ------------------------------------------------------------------ proposals and what became of them
CREATE TABLE proposals (
  id uuid PRIMARY KEY,
  workspace_id uuid NOT NULL,
  item_id uuid NOT NULL,
  order_id uuid NOT NULL,
  action text NOT NULL,
  target text NOT NULL,
  adapter text NOT NULL,
  sha256 bytea NOT NULL CHECK (length(sha256) = 32),
  precondition_sha256 bytea NOT NULL CHECK (length(precondition_sha256) = 32),
  epoch integer NOT NULL CHECK (epoch > 0),
  finding text NOT NULL DEFAULT '',
  confidence real NOT NULL CHECK (confidence BETWEEN 0 AND 1),
  author text NOT NULL,
  submitter text NOT NULL,
  editors text[] NOT NULL DEFAULT '{}',
  state text NOT NULL DEFAULT 'open' CHECK (state IN ($proposal_states)),
  -- Indexed instead of the state: so that from approved to applied is a HOT update.
  is_open boolean NOT NULL GENERATED ALWAYS AS (state = 'open') STORED,
  created_at timestamptz NOT NULL DEFAULT clock(),
  expires_at timestamptz NOT NULL,
  UNIQUE (workspace_id, id),
  UNIQUE (item_id, epoch),
  FOREIGN KEY (workspace_id, item_id) REFERENCES items (workspace_id, id)) WITH (fillfactor = 80);
CREATE INDEX proposals_open ON proposals (workspace_id, finding, confidence DESC) WHERE is_open;
CREATE INDEX proposals_expiry ON proposals (expires_at) WHERE is_open;
CREATE INDEX proposals_target ON proposals (target, workspace_id);

CREATE TABLE clearances (
  id uuid PRIMARY KEY,
  workspace_id uuid NOT NULL,
  proposal_id uuid NOT NULL UNIQUE,
  tier text NOT NULL CHECK (tier IN ('none', 'single', 'dual')),
  needed smallint NOT NULL CHECK (needed BETWEEN 0 AND 2),
  state text NOT NULL DEFAULT 'open' CHECK (state IN ($clearance_states)),
  opened_at timestamptz NOT NULL DEFAULT clock(),
  due_at timestamptz,
  closed_at timestamptz,
  UNIQUE (workspace_id, id),
  FOREIGN KEY (workspace_id, proposal_id) REFERENCES proposals (workspace_id, id));

-- What people decided, for the sweeper that follows them; what nobody has to decide costs nothing here.
CREATE INDEX clearances_decided ON clearances (closed_at) WHERE needed > 0 AND state IN ('cleared', 'refused', 'returned');

CREATE TABLE decisions (
  id uuid PRIMARY KEY,
  workspace_id uuid NOT NULL,
  clearance_id uuid NOT NULL,
  proposal_id uuid NOT NULL,
  proposal_sha256 bytea NOT NULL,
  actor_id uuid NOT NULL,
  decision text NOT NULL CHECK (decision IN ('approve', 'reject', 'return')),
  reason text NOT NULL DEFAULT '',
  decided_at timestamptz NOT NULL DEFAULT clock(),
  expires_at timestamptz NOT NULL,
  UNIQUE (clearance_id, actor_id),
  FOREIGN KEY (workspace_id, clearance_id) REFERENCES clearances (workspace_id, id),
  FOREIGN KEY (workspace_id, proposal_id) REFERENCES proposals (workspace_id, id),
  FOREIGN KEY (workspace_id, actor_id) REFERENCES actors (workspace_id, id));

CREATE TABLE applies (
  id uuid PRIMARY KEY,
  workspace_id uuid NOT NULL,
  proposal_id uuid NOT NULL,
  item_id uuid NOT NULL,
  action_id bytea NOT NULL CHECK (length(action_id) = 32),
  proposal_sha256 bytea NOT NULL,
  adapter text NOT NULL,
  idempotency_class text NOT NULL CHECK (idempotency_class IN ('native', 'convergent', 'probeable', 'none')),
  fence integer NOT NULL,
  state text NOT NULL DEFAULT 'intent' CHECK (state IN ($apply_states)),
  -- Indexed instead of the state: so that the end of an apply is a HOT update.
  had_effect boolean NOT NULL GENERATED ALWAYS AS (state <> 'failed') STORED,
  intent_at timestamptz NOT NULL DEFAULT clock(),
  finished_at timestamptz,
  receipt bytea,
  FOREIGN KEY (workspace_id, proposal_id) REFERENCES proposals (workspace_id, id),
  CHECK ((state = 'intent') = (finished_at IS NULL))) WITH (fillfactor = 60);
-- At most one apply of an action that may have had an effect.
CREATE UNIQUE INDEX applies_once ON applies (action_id, workspace_id) WHERE had_effect;
CREATE INDEX applies_proposal ON applies (proposal_id);

CREATE TABLE audit (
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  workspace_id uuid,
  at timestamptz NOT NULL DEFAULT clock(),
  actor text NOT NULL,
  -- The database's own word for who wrote this; actor is what that login says of the person it acts for.
  login text NOT NULL DEFAULT session_user,
  action text NOT NULL,
  object text NOT NULL,
  payload_sha256 bytea NOT NULL,
  payload text NOT NULL);

-- Tables of the queue: the hot row of each item, its history, and who works on it.

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
CREATE INDEX queue_ready ON queue (ready_lane, workspace_id, pod_id, priority, due_at, item_id)
 WHERE ready_lane IS NOT NULL;
CREATE INDEX queue_crashed ON queue (ready_lane, workspace_id, pod_id, priority, due_at, item_id)
 WHERE ready_lane IS NOT NULL AND crashes > 0;
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
  stopped_at timestamptz,
  ended text NOT NULL DEFAULT '');  -- how its process ended, where its supervisor saw it

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
  returned bigint NOT NULL DEFAULT 0,  -- claimed and given back unfinished, each time anew
  PRIMARY KEY (minute, lane, workspace_id, worker_id));

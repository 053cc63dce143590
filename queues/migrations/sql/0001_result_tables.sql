-- Tables of results: what work leaves behind, what it proposes, and what became of that.

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
CREATE INDEX clearances_decided ON clearances (closed_at)
 WHERE needed > 0 AND state IN ('cleared', 'refused', 'returned');

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

/** What `/api/admin/updates` speaks: what serves, the stick, and what is under way. Times are unix milliseconds. */

export type UpdateKind = 'model' | 'system';

/** `GET /api/admin/updates`, and each event of its stream: always the whole. */
export interface Updates {
  model: VersionLine;
  system: VersionLine;
  /** Versions on the box that neither serve nor would after going back. */
  others: InstalledVersion[];
  /** Of the system that runs, "0.1.0". */
  system_version: string;
  /** Another system is in place and waits for a restart. */
  restart_wanted: boolean;
  /** A system that did not start well, so that the box went back by itself. */
  fell_back: { version: string | number; reason: string } | null;
  /** The last version that failed its test. */
  abandoned: { name: string; version: number; reason: string } | null;
  stick: Stick | null;
  /** Of what is under way, or how the last ended, until that was read. */
  progress: UpdateProgress | null;
  trust: { root: string | null; keys: BelievedKey[] };
  /** False on somebody's own computer: there are no sticks, no restart, no factory reset. */
  appliance: boolean;
}

export interface VersionLine {
  current: InstalledVersion | null;
  previous: InstalledVersion | null;
}

export interface InstalledVersion {
  name: string;
  title: string;
  version: number;
  bytes: number;
}

export interface Stick {
  id: string;
  device: string;
  label: string;
  size_bytes: number;
  writable: boolean;
  content: StickContent;
  backups: Backup[];
}

export type StickContent =
  | { state: 'reading' }
  | { state: 'nothing' }
  | { state: 'bundle'; preview: Preview }
  | { state: 'refused'; problem: Failure };

export interface Backup {
  file: string;
  bytes: number;
  created_ms: number;
}

/** A key whose bundles this box takes. */
export interface BelievedKey {
  name: string;
  fingerprint: string;
  because: 'release' | 'added';
}

/** What installing a bundle would do; see the daemon's `Preview`. */
export interface Preview {
  kind: UpdateKind;
  name: string;
  title: string;
  version: number;
  /** As the bundle says itself. */
  created: string;
  id: string;
  signer: BelievedKey | null;
  serves: { name: string; version: number; id: string } | null;
  memory_bytes: number | null;
  bytes: number;
  /** Still to be read from the stick. */
  stick_bytes: number;
  /** Still to be taken from what is installed. */
  local_bytes: number;
  /** Copied by an earlier try. */
  done_bytes: number;
  need_bytes: number;
  free_bytes: number;
  seconds: number | null;
  verdict: 'serves' | 'staged' | 'install' | null;
  refusal: Failure | null;
  failed_before: string | null;
}

/** Why something can't be, or ended. */
export interface Failure {
  /** For translation; see `settings/updates/failures.ts`. */
  code: string;
  /** In English, with places and remedy. */
  message: string;
}

export type UpdateStep = 'prepare' | 'copy' | 'check' | 'settle' | 'test' | 'switch' | 'done';
export type UpdateAction = 'install' | 'rollback' | 'backup' | 'restore';

export interface UpdateProgress {
  action: UpdateAction;
  /** Null for a backup. */
  kind: UpdateKind | null;
  name: string;
  title: string;
  version: number;
  step: UpdateStep;
  /** Of this step. */
  bytes_done: number;
  /** Of this step; 0 where it has no bytes. */
  bytes_total: number;
  rate: number | null;
  seconds_left: number | null;
  since_ms: number;
  step_since_ms: number;
  moved_ms: number;
  stalled: boolean;
  stick_may_go: boolean;
  error: Failure | null;
}

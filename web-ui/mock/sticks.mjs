// Sticks to plug into the mock box, by name: `npm run mock` takes the names on its standard input.

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;

export const RELEASE_KEY = { name: 'Wels releases 2026', fingerprint: '9f2c 41d0 7be3 5a18 c6f4 02ab 8d97 e1c5', because: 'release' };
/** A key that the box does not know until its file is pasted. */
export const STRANGER = { name: 'Haus am See, IT', fingerprint: '3b0e d7a9 15c2 88f4 6e1d b3a0 29c7 f05a', public_key: 'ab'.repeat(32) };

const ROOM = { need_bytes: 9.1 * GIB, free_bytes: 61 * GIB };

/** What the daemon would say of a bundle with a newer model. */
const MODEL = {
  kind: 'model', name: 'r1-distill-14b', title: 'DeepSeek-R1-Distill-Qwen-14B', version: 4, created: '2026-11-02T09:30:00Z',
  id: 'c1'.repeat(32), signer: RELEASE_KEY, serves: null, memory_bytes: 16 * GIB, bytes: Math.round(9.1 * GIB),
  stick_bytes: Math.round(8.2 * GIB), local_bytes: 0, done_bytes: 0, ...ROOM, seconds: 262, verdict: 'install', refusal: null,
  failed_before: null,
};
const SYSTEM = {
  ...MODEL, kind: 'system', name: 'wels', title: 'Wels 0.2.0', version: 2, id: 'c2'.repeat(32), memory_bytes: null, bytes: 386 * MIB,
  stick_bytes: Math.round(1.8 * MIB), local_bytes: 384 * MIB, need_bytes: 386 * MIB, seconds: 0.4,
};
const older = (newest) => ({
  code: 'older', message: `r1-distill-14b 3 is older than ${newest}, which this box has had; an administrator can allow it`,
});

const bundle = (preview) => ({ state: 'bundle', preview });
const refused = (code, message) => ({ state: 'refused', problem: { code, message } });

/** What is on each stick. */
const CONTENTS = {
  model: bundle(MODEL),
  system: bundle(SYSTEM),
  // Its test fails.
  broken: bundle({ ...MODEL, name: 'r1-broken', title: 'R1, a broken build', version: 9, id: 'c3'.repeat(32) }),
  older: bundle({ ...MODEL, version: 3, id: 'c4'.repeat(32), verdict: null, refusal: older(4) }),
  resumed: bundle({ ...MODEL, stick_bytes: Math.round(3.4 * GIB), done_bytes: Math.round(5.7 * GIB), seconds: 109 }),
  failed: bundle({ ...MODEL, failed_before: 'the test prompt was answered with nothing but spaces' }),
  full: bundle({
    ...MODEL, need_bytes: 404 * GIB, bytes: 404 * GIB, title: 'DeepSeek-R1 671B', name: 'r1', verdict: null,
    refusal: { code: 'no_space', message: '/var/lib/wels-models: 433791696896 more bytes are needed, 65498251264 are free; remove a model and start again' },
  }),
  serves: bundle({ ...MODEL, stick_bytes: 0, seconds: null, need_bytes: 0, verdict: 'serves' }),
  stranger: refused('unknown_key', `/dev/sdb1: signed by a key this box doesn't know: ${STRANGER.fingerprint}; if it is yours, an administrator can add it with \`wels bundle trust\``),
  altered: refused('bad_signature', '/dev/sdb1: the signature is wrong: the bundle was changed after it was signed, or damaged'),
  odd: refused('from_the_future', 'a sentence that only the box knows'),
  reading: { state: 'reading' },
  empty: { state: 'nothing' },
  backups: { state: 'nothing' },
  recovery: { state: 'nothing' },
};

const BACKUPS = [
  { file: 'wels-backup-2026-11-20.age', bytes: 148_211_340, created_ms: Date.UTC(2026, 10, 20, 16, 5) },
  { file: 'wels-backup-2026-08-03.age', bytes: 97_004_112, created_ms: Date.UTC(2026, 7, 3, 8, 41) },
];

export const STICK_NAMES = Object.keys(CONTENTS);

/** A stick by its name. */
export function stickOf(name) {
  const isImage = !['empty', 'backups', 'recovery', 'reading'].includes(name);
  return {
    id: `stick-${name}`, device: 'sdb1', label: isImage ? 'WELS-BUNDLE' : 'KINGSTON', size_bytes: 30_943_995_904,
    writable: !isImage, content: structuredClone(CONTENTS[name]), backups: name === 'backups' ? structuredClone(BACKUPS) : [],
    // For the mock alone: the daemon keeps it to itself.
    asks_recovery: name === 'recovery',
  };
}

/** What a stick holds once the box knows its signer. */
export const known = (stick) => ({
  ...stick,
  content: bundle({ ...MODEL, id: 'c5'.repeat(32), signer: { name: STRANGER.name, fingerprint: STRANGER.fingerprint, because: 'added' } }),
});

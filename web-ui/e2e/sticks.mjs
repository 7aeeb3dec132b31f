// A real daemon as on the box, and real sticks: bundles made by the daemon's own tools, two versions of one model that call
// themselves by different names.

import { execFile, spawn } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
/** What SmolLM2's file calls it; the others are as long. */
const NAME = 'Smollm2 135M 8k';
export const NAMES = ['First model one', 'Other model two'];

/** Makes keys and a stick for each name, in `folder`. */
export async function makeSticks(bin, gguf, folder) {
  const wels = (...args) => run(bin, args, { env: { ...process.env, WELS_LOG: 'error' } });
  const path = (name) => join(folder, name);
  await mkdir(folder);
  await wels('bundle', 'keygen', '--role', 'release', '--name', 'Bench', '--out', path('key'));
  const model = await readFile(gguf);
  const at = model.indexOf(NAME);
  for (const [n, name] of NAMES.entries()) {
    model.write(name, at);
    await writeFile(path('model.gguf'), model);
    await wels('import', path('model.gguf'), path(`pack${n}`));
    await wels('bundle', 'create', path(`pack${n}`), '--image', path(`stick${n}`), '--name', 'smol', '--title', name,
      '--counter', String(n + 1), '--key', path('key'));
  }
  return { key: await readFile(path('key.pub'), 'utf8'), stick: (n) => path(`stick${n}`) };
}

/** Plugs a stick into the daemon's door; what comes back pulls it. */
export function plug(bin, stick, runtime) {
  const child = spawn(bin, ['stick', stick, '--runtime', runtime], { stdio: ['ignore', 'ignore', 'inherit'] });
  return () => child.kill();
}

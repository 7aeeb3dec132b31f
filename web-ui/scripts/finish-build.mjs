// After `vite build`: writes .br and .gz beside every text file of dist, so that the daemon never
// compresses while serving, and holds the page to its size budget.

import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';

/** What the first visit may load, gzipped, in kB (1000 bytes). */
const INITIAL_KB_MAX = 90;
const TEXT = new Set(['.html', '.js', '.css', '.svg', '.json', '.txt']);
/** Smaller files gain nothing that a packet would notice. */
const BYTES_MIN = 512;

const dist = fileURLToPath(new URL('../dist', import.meta.url));

function filesBelow(folder) {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

function compress(path) {
  const bytes = readFileSync(path);
  if (!TEXT.has(extname(path)) || bytes.length < BYTES_MIN) return;
  const brotli = brotliCompressSync(bytes, {
    params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length },
  });
  const gzip = gzipSync(bytes, { level: 9 });
  for (const [suffix, packed] of [['.br', brotli], ['.gz', gzip]]) {
    if (packed.length < bytes.length) writeFileSync(path + suffix, packed);
  }
}

/** Everything the browser asks for before the page works: the entry, what it imports statically, their styles. */
function initialFiles(manifest) {
  const files = new Set(['index.html']);
  const queue = Object.keys(manifest).filter((key) => manifest[key].isEntry);
  for (const key of queue) {
    const chunk = manifest[key];
    if (files.has(chunk.file)) continue;
    files.add(chunk.file);
    for (const style of chunk.css ?? []) files.add(style);
    queue.push(...(chunk.imports ?? []));
  }
  return [...files];
}

const manifestFolder = join(dist, '.vite');
const manifest = JSON.parse(readFileSync(join(manifestFolder, 'manifest.json'), 'utf8'));
rmSync(manifestFolder, { recursive: true });
for (const path of filesBelow(dist)) compress(path);

let total = 0;
for (const file of initialFiles(manifest)) {
  const path = join(dist, file);
  const bytes = Math.min(statSync(path).size, gzipSync(readFileSync(path), { level: 9 }).length);
  total += bytes;
  console.log(`  ${(bytes / 1000).toFixed(1).padStart(6)} kB gz  ${file}`);
}
console.log(`  ${(total / 1000).toFixed(1).padStart(6)} kB gz  initial load, budget ${INITIAL_KB_MAX}`);
if (total > INITIAL_KB_MAX * 1000) {
  console.error('The initial load is over its budget: load something later, or leave it out.');
  process.exit(1);
}

// `npm run mock`: the stand-in daemon on a fixed port, for `npm run dev` and for looking around.

import { createInterface } from 'node:readline';
import { RECOVERY_CODE } from './box.mjs';
import { startMock } from './server.mjs';
import { STICK_NAMES } from './sticks.mjs';

const { url, claimCode, desk } = await startMock({ port: Number(process.env.PORT ?? 8787), tokenMs: Number(process.env.TOKEN_MS ?? 15) });
console.log(`listening on ${url}\nclaim code: ${claimCode}\nrecovery code, while the stick "recovery" is in: ${RECOVERY_CODE}`);
console.log(`type a stick's name to plug it in (${STICK_NAMES.join(', ')}), or: pull, stall, go on`);
const WORDS = { pull: () => desk.plug(null), stall: () => desk.stall(true), 'go on': () => desk.stall(false) };
createInterface({ input: process.stdin }).on('line', (line) => {
  const word = line.trim();
  if (STICK_NAMES.includes(word)) desk.plug(word);
  else WORDS[word]?.();
});

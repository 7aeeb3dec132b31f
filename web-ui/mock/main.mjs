// `npm run mock`: the stand-in daemon on a fixed port, for `npm run dev` and for looking around.

import { startMock } from './server.mjs';

const { url, claimCode } = await startMock({ port: Number(process.env.PORT ?? 8787), tokenMs: Number(process.env.TOKEN_MS ?? 15) });
console.log(`listening on ${url}\nclaim code: ${claimCode}`);

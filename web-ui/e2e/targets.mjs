// What the browser test runs against: the real daemon with a real model, or the mock box.

import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { startMock } from '../mock/server.mjs';
import { makeSticks, plug } from './sticks.mjs';

/** Loading a model into memory may take a while on a cold disk. */
const START_MS_MAX = 120_000;
const STOP_MS_MAX = 10_000;

export async function startTarget(kind) {
  if (kind === 'mock') return { ...(await startMock({ tokenMs: 8, tickMs: 20, awayMs: 2_000 })), thinks: true };
  const { WELS_BIN, WELS_MODEL } = process.env;
  if (!WELS_BIN || !WELS_MODEL) {
    throw new Error('set WELS_BIN (the daemon) and WELS_MODEL (a GGUF file or a pack), or run: npm run e2e:mock');
  }
  if (kind === 'sticks') return startBox(WELS_BIN, WELS_MODEL);
  const { args, ...rest } = kind === 'card' ? LOST_CARD : PLAIN;
  return startDaemon(WELS_BIN, await scratch(), { args: ['--model', WELS_MODEL, ...args], ...rest });
}

/** A small model may repeat itself for ever; the steps need answers that end. */
const PLAIN = { args: [], env: {}, answerTokens: '1200' };

/** A card, of whatever kind, that is taken away in the middle of the first answer; which most often ends at its limit, too. */
const LOST_CARD = { args: ['--device', 'gpu'], env: { WELS_GPU_LOSE_AFTER: '8' }, answerTokens: '64' };

const scratch = () => mkdtemp(join(tmpdir(), 'wels-e2e-'));

/** A box without a model, as it comes out of its carton; `plug(n)` puts a stick in. */
async function startBox(bin, model) {
  const state = await scratch();
  const runtime = join(state, 'run');
  await mkdir(runtime);
  const { key, stick } = await makeSticks(bin, model, join(state, 'shop'));
  const args = ['--models', join(state, 'models')];
  const daemon = await startDaemon(bin, state, { args, env: { RUNTIME_DIRECTORY: runtime }, answerTokens: '64' });
  return { ...daemon, key, plug: (n) => plug(bin, stick(n), runtime) };
}

async function startDaemon(bin, state, { args, env, answerTokens }) {
  const child = spawn(bin, ['serve', '--state', state, '--listen', '127.0.0.1:0', '--answer-tokens', answerTokens, ...args], {
    // The model is named, or comes on a stick.
    env: { ...process.env, WELS_MODEL: undefined, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const close = async () => {
    await stop(child);
    await rm(state, { recursive: true, force: true });
  };
  try {
    return { ...(await announced(child)), close, thinks: false };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Waits for the address and the claim code on the daemon's standard output. */
function announced(child) {
  return new Promise((resolve, reject) => {
    const found = {};
    const late = setTimeout(() => reject(new Error('the daemon did not announce its address in time')), START_MS_MAX);
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`the daemon ended with ${code} before it announced its address`)));
    createInterface({ input: child.stdout }).on('line', (line) => {
      found.url ??= /listening on (http:\/\/\S+)/.exec(line)?.[1];
      found.claimCode ??= /claim code:\s*(\S+)/.exec(line)?.[1];
      if (!found.url || !found.claimCode) return;
      clearTimeout(late);
      resolve(found);
    });
  });
}

async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  const force = setTimeout(() => child.kill('SIGKILL'), STOP_MS_MAX);
  await ended;
  clearTimeout(force);
}

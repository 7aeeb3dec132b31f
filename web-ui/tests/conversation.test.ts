import { describe, expect, it } from 'vitest';
import type { Message } from '../src/api';
import { children, newest, newestLeaf, pathTo } from '../src/chat/tree';
import { Turn } from '../src/chat/turn.svelte';
import { formatCode } from '../src/entry/claim-code';
import { agentName } from '../src/settings/agent-name';
import { groupByAge } from '../src/sidebar/groups';
import { markQuery } from '../src/sidebar/mark-query';
import { parsePath } from '../src/state/router.svelte';

const tree = new Map([
  { id: '1', parentId: null, createdAt: 1 },
  { id: '2', parentId: '1', createdAt: 2 },
  { id: '3', parentId: '1', createdAt: 3 },
  { id: '9', parentId: '2', createdAt: 4 },
  { id: '10', parentId: '2', createdAt: 4 },
].map((node) => [node.id, node]));

describe('tree', () => {
  const ids = (nodes: { id: string }[]) => nodes.map((node) => node.id).join(' ');

  it('finds paths, siblings and leaves', () => {
    expect(ids(pathTo(tree, '10'))).toBe('1 2 10');
    expect(ids(children(tree, '2'))).toBe('9 10');
    expect(newestLeaf(tree, '1')).toBe('3');
    expect(newestLeaf(tree, '2')).toBe('10');
    expect(newest(tree)).toBe('10');
  });

  it('survives missing parents and loops', () => {
    const odd = new Map([['a', { id: 'a', parentId: 'b', createdAt: 1 }], ['b', { id: 'b', parentId: 'a', createdAt: 2 }]]);
    expect(ids(pathTo(odd, 'a'))).toBe('b a');
    expect(['a', 'b']).toContain(newestLeaf(odd, 'a'));
    expect(pathTo(tree, 'nowhere')).toEqual([]);
  });
});

describe('Turn', () => {
  const message: Message = {
    id: '1', parent_id: null, role: 'assistant', content: 'old', reasoning: 'old', reasoning_ms: null, status: 'running',
    error: null, created_at: 0, receipt: null,
  };

  it('goes from the queue to the answer', () => {
    const turn = new Turn(message);
    turn.rewind();
    turn.apply({ type: 'queue', ahead: 2 });
    expect(turn.phase).toEqual({ name: 'queued', ahead: 2 });
    turn.apply({ type: 'prefill', done: 1, total: 4 });
    expect(turn.phase).toEqual({ name: 'reading', share: 0.25 });
    turn.apply({ type: 'reasoning', text: 'hm', ms: 3_000 }, 10_000);
    turn.apply({ type: 'reasoning', text: '…', ms: 4_000 }, 11_000);
    expect([turn.thoughtFrom, turn.reasoning]).toEqual([7_000, 'hm…']);
    turn.apply({ type: 'thought_end', reasoning_ms: 4_200 });
    turn.apply({ type: 'content', text: 'Yes' });
    expect([turn.content, turn.reasoningMs, turn.phase.name]).toEqual(['Yes', 4_200, 'answering']);
    turn.apply({ type: 'done', message: { ...message, content: 'Yes.', status: 'done' } });
    expect([turn.content, turn.running]).toEqual(['Yes.', false]);
  });

  it('keeps the words of an answer that broke off', () => {
    const turn = new Turn(message);
    turn.apply({ type: 'error', code: 'internal', message: 'engine stopped' });
    expect([turn.content, turn.status, turn.error]).toEqual(['old', 'error', 'engine stopped']);
  });
});

describe('small things', () => {
  it('formats claim codes as the console prints them', () => {
    expect(formatCode(' wels 7q3k ')).toBe('WELS-7Q3K');
    expect(formatCode('wels-7')).toBe('WELS-7');
    expect(formatCode('wel')).toBe('WEL');
  });

  it('groups chats by local days', () => {
    const now = new Date(2026, 4, 20, 12).getTime();
    const at = (month: number, day: number) => ({ updated_at: new Date(2026, month, day, 9).getTime() });
    const groups = groupByAge([at(4, 20), at(4, 19), at(4, 15), at(4, 2), at(3, 30)], now);
    expect(groups.map((group) => group.heading.name)).toEqual(['today', 'yesterday', 'thisWeek', 'month', 'month']);
  });

  it('marks hits without HTML', () => {
    expect(markQuery('<b>合同</b> 合同', '合同').filter((piece) => piece.hit)).toHaveLength(2);
    expect(markQuery('abc', '').map((piece) => piece.text)).toEqual(['abc']);
    expect(markQuery('İx', 'x').map((piece) => piece.text).join('')).toBe('İx');
  });

  it('reads its own addresses', () => {
    expect(parsePath('/')).toEqual({ page: 'chat', chatId: null });
    expect(parsePath('/c/a%20b')).toEqual({ page: 'chat', chatId: 'a b' });
    expect(parsePath('/c/%')).toEqual({ page: 'chat', chatId: null });
    expect(parsePath('/settings/keys')).toEqual({ page: 'settings', tab: 'keys' });
    expect(parsePath('/settings/x')).toEqual({ page: 'settings', tab: 'account' });
  });

  it('names browsers', () => {
    const edge = 'Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36 Edg/140.0';
    expect(agentName(edge)).toBe('Edge, Windows');
    expect(agentName('curl')).toBeNull();
  });
});

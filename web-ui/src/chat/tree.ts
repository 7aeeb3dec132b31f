/**
 * A chat is a tree: an edit or a new answer adds a sibling, nothing is lost. The page shows one path.
 *
 *     question ─┬─ answer 1
 *               └─ answer 2 ─┬─ next question
 *                            └─ next question, edited   ← leaf: the path shown
 */

/** The part of a message that makes it a node. */
export interface Node {
  readonly id: string;
  readonly parentId: string | null;
  readonly createdAt: number;
}

/** From the root to `leafId`. A parent that is missing, or a loop, ends the path. */
export function pathTo<T extends Node>(nodes: ReadonlyMap<string, T>, leafId: string | null): T[] {
  const path: T[] = [];
  const seen = new Set<string>();
  let node = leafId === null ? undefined : nodes.get(leafId);
  while (node && !seen.has(node.id)) {
    seen.add(node.id);
    path.push(node);
    node = node.parentId === null ? undefined : nodes.get(node.parentId);
  }
  return path.reverse();
}

/** All children of one parent, oldest first. */
export function children<T extends Node>(nodes: ReadonlyMap<string, T>, parentId: string | null): T[] {
  return [...nodes.values()].filter((node) => node.parentId === parentId).sort(byAge);
}

/** The newest leaf below a node: where a switch to that branch ends up. */
export function newestLeaf<T extends Node>(nodes: ReadonlyMap<string, T>, fromId: string): string {
  let id = fromId;
  for (let steps = 0; steps <= nodes.size; steps++) {
    const next = children(nodes, id).at(-1);
    if (!next) break;
    id = next.id;
  }
  return id;
}

/** The newest message of all, whose path a reopened chat shows. */
export function newest<T extends Node>(nodes: ReadonlyMap<string, T>): string | null {
  return [...nodes.values()].sort(byAge).at(-1)?.id ?? null;
}

function byAge(a: Node, b: Node): number {
  return a.createdAt - b.createdAt || compareIds(a.id, b.id);
}

/** Ids may be numbers in text: shorter is older. */
function compareIds(a: string, b: string): number {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
}

/** Chats under the headings of the side bar: today, yesterday, the last week, then by month. */

export type Heading = { name: 'today' | 'yesterday' | 'thisWeek' } | { name: 'month'; at: number };

export interface Group<T> {
  heading: Heading;
  chats: T[];
}

const DAY_MS = 86_400_000;

/** Keeps the order it is given: newest first. Days begin at local midnight. */
export function groupByAge<T extends { updated_at: number }>(chats: readonly T[], now: number): Group<T>[] {
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  const groups: Group<T>[] = [];
  for (const chat of chats) {
    const heading = headingFor(chat.updated_at, midnight);
    const last = groups.at(-1);
    if (last && sameHeading(last.heading, heading)) last.chats.push(chat);
    else groups.push({ heading, chats: [chat] });
  }
  return groups;
}

function headingFor(at: number, midnight: number): Heading {
  if (at >= midnight) return { name: 'today' };
  if (at >= midnight - DAY_MS) return { name: 'yesterday' };
  if (at >= midnight - 7 * DAY_MS) return { name: 'thisWeek' };
  const date = new Date(at);
  return { name: 'month', at: new Date(date.getFullYear(), date.getMonth()).getTime() };
}

function sameHeading(a: Heading, b: Heading): boolean {
  return a.name === b.name && (a.name !== 'month' || a.at === (b as { at: number }).at);
}

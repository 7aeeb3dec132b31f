/** A text cut where the query occurs, so that the hits can be marked without any HTML. */
export interface Piece {
  text: string;
  hit: boolean;
}

/** Case is ignored where that keeps the text's length, which it does for all but a few letters. */
export function markQuery(text: string, query: string): Piece[] {
  const needle = query.trim().toLowerCase();
  const haystack = text.toLowerCase();
  if (!needle || haystack.length !== text.length) return [{ text, hit: false }];
  const pieces: Piece[] = [];
  let from = 0;
  for (let at = haystack.indexOf(needle); at >= 0; at = haystack.indexOf(needle, from)) {
    if (at > from) pieces.push({ text: text.slice(from, at), hit: false });
    from = at + needle.length;
    pieces.push({ text: text.slice(at, from), hit: true });
  }
  if (from < text.length) pieces.push({ text: text.slice(from), hit: false });
  return pieces;
}

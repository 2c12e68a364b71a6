import type { LineStream } from '../train/report';

/** Where a command writes: results to `out`, everything else to `err`. Both take text without the last newline. */
export interface Output {
  out(text: string): void;
  err(text: string): void;
  /** Where progress is drawn. */
  terminal: LineStream;
}

/** Rows as aligned columns; the first column to the left, the others to the right. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((_, i) => Math.max(...[header, ...rows].map((row) => row[i].length)));
  const line = (row: readonly string[]) =>
    row
      .map((cell, i) => (i ? cell.padStart(widths[i]) : cell.padEnd(widths[i])))
      .join('  ')
      .trimEnd();
  return [line(header), widths.map((w) => '-'.repeat(w)).join('  '), ...rows.map(line)].join('\n');
}

/** A file's name as a shell takes it. */
export function shellWord(name: string): string {
  return /^[\w@%+=:,./-]+$/.test(name) ? name : `'${name.replaceAll("'", "'\\''")}'`;
}

/** A count with its unit: `25.56 M`, `4.089 G`. */
export function count(n: number): string {
  const [scale, unit, digits] = n >= 1e9 ? [1e9, 'G', 3] : n >= 1e6 ? [1e6, 'M', 2] : [1e3, 'k', 1];
  return n < 1000 ? String(n) : `${(n / scale).toFixed(digits)} ${unit}`;
}

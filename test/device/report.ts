// What the commands of this folder share: is there a device, and where do results go.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cudaStatus, deviceInfo } from '../../lib/tensor';

export const root = join(__dirname, '../..');

/** The CUDA device's name, compute capability and libraries; ends the process with a sentence where there is none. */
export function requireDevice(device: string): Record<string, string> {
  try {
    return deviceInfo(device);
  } catch (error) {
    console.error(`This command needs a CUDA device. ${(error as Error).message}`);
    console.error(`slimclr doctor says: ${cudaStatus()}`);
    process.exit(1);
  }
}

export function markdownTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(header), line(header.map(() => '---')), ...rows.map(line)].join('\n');
}

/** Milliseconds left to a command that may take SLIMCLR_TEST_MINUTES, 9 by default; 0 where they are over. */
export function timeLeft(): number {
  return Math.max(0, deadline - Date.now());
}
const deadline = Date.now() + 60_000 * Number(process.env.SLIMCLR_TEST_MINUTES ?? '9');

/** Writes build/results/NAME.json and .md: after every part, so that a command which is ended leaves what it has. */
export function writeResults(name: string, json: object, markdown: string): void {
  const folder = join(root, 'build', 'results');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${name}.json`), JSON.stringify(json, null, 2));
  writeFileSync(join(folder, `${name}.md`), `${markdown}\n`);
}

/** The same, of all that there is, and prints the latter. */
export function showResults(name: string, json: object, markdown: string): void {
  writeResults(name, json, markdown);
  console.log(`\n${markdown}\n\nwritten to build/results/${name}.json and .md`);
}

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

/** Writes build/results/NAME.json and .md, and prints the latter. */
export function writeResults(name: string, json: object, markdown: string): void {
  const folder = join(root, 'build', 'results');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${name}.json`), JSON.stringify(json, null, 2));
  writeFileSync(join(folder, `${name}.md`), `${markdown}\n`);
  console.log(`\n${markdown}\n\nwritten to build/results/${name}.json and .md`);
}

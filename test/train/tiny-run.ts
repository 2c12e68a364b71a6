import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeShapes } from '../../lib/data';
import type { Settings } from '../../lib/train';

const root = join(__dirname, '../..');

/** A folder of the tests' own, removed by {@link removeFolders}. */
export function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'slimclr-run-'));
  folders.push(folder);
  return folder;
}
const folders: string[] = [];

export function removeFolders(): void {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
}

/** Generated pictures of four classes, 16 pixels: 48 to train on (three batches of 16) and 24 to test on. */
export async function tinyPictures(): Promise<string> {
  const folder = newFolder();
  await writeShapes(folder, { count: 48, testCount: 24, size: 16, classes: ['circle', 'square', 'cross', 'star'] });
  return folder;
}

/** The smallest network and run that still has everything: two widths, slow start, queue wrap-around, two epochs. */
export function tinySettings(data: string): Settings {
  return {
    data,
    arch: 'resnet20',
    widths: [1, 0.5],
    baseWidth: 4,
    dim: 8,
    batch: 16,
    queue: 40,
    epochs: 2,
    slowStart: 1,
    evalEvery: 1,
    logEvery: 1,
    device: 'cpu',
  };
}

/** The same as options of the command line. */
export function tinyOptions(data: string): string[] {
  return Object.entries(tinySettings(data)).flatMap(([name, value]) => [
    `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`,
    String(value),
  ]);
}

export interface Finished {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** When the newest file of a folder was changed. */
function newest(path: string): number {
  const stat = statSync(path);
  if (!stat.isDirectory()) return stat.mtimeMs;
  return Math.max(...readdirSync(path).map((name) => newest(join(path, name))));
}

export interface Started {
  child: ChildProcess;
  finished: Promise<Finished>;
  /** Resolves when this stands in standard error. */
  sees: (text: string) => Promise<void>;
}

/**
 * Starts the command line in a process of its own.
 * @param shell runs before it: `ulimit -f 1`
 */
export function startCli(args: readonly string[], shell?: string): Started {
  return startNode('lib/cli/main.ts', args, shell);
}

/** Starts a file of lib/ or test/ in a process of its own: compiled, where dist/ is up to date, which starts faster. */
export function startNode(file: string, args: readonly string[], shell = ':'): Started {
  const compiled = join(root, 'dist', file.replace(/\.ts$/, '.js'));
  const fresh = existsSync(compiled) && newest(join(root, 'dist')) >= newest(join(root, 'lib'));
  const program = fresh ? [compiled] : ['-r', require.resolve('ts-node/register/transpile-only'), join(root, file)];
  const words = [process.execPath, ...program, ...args];
  const child = spawn('sh', ['-c', `${shell}; exec "$@"`, 'sh', ...words], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [stdout, stderr] = ['', ''];
  const waiting: { text: string; found: () => void }[] = [];
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
    for (const { text, found } of waiting) if (stderr.includes(text)) found();
  });
  const finished = new Promise<Finished>((resolve) => {
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
  const sees = (text: string) =>
    new Promise<void>((found, fail) => {
      if (stderr.includes(text)) found();
      waiting.push({ text, found });
      void finished.then(() => fail(new Error(`the process ended without "${text}":\n${stderr}`)));
    });
  return { child, finished, sees };
}

export function checkpointBytes(out: string): Buffer {
  return readFileSync(join(out, 'checkpoint.safetensors'));
}

// Child processes of tests: TypeScript files run by plain node.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

export interface ChildResult {
  status: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export const tsNode = ['-r', 'ts-node/register/transpile-only'];

/** Runs a script of this folder and waits for it. */
export function runChild(
  script: string,
  args: readonly string[],
  options: { nodeOptions?: readonly string[]; env?: NodeJS.ProcessEnv; timeout?: number } = {},
): ChildResult {
  const { nodeOptions = [], env = {}, timeout = 120_000 } = options;
  const words = [...tsNode, ...nodeOptions, join(__dirname, script), ...args];
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, words, {
    cwd: join(__dirname, '../..'),
    // Threads that wait for each other sleep: spinning takes minutes where other processes keep the cores busy.
    env: { ...process.env, OMP_WAIT_POLICY: 'passive', ...env },
    encoding: 'utf8',
    timeout,
  });
  return { status, signal, stdout, stderr };
}

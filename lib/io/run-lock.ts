/**
 * One run per output folder: a lock file names the process that writes there.
 *
 * A lock whose process is gone (killed, power lost) is taken over. Processes are told apart from later ones of the same
 * number by their start time, where the system shows it (Linux: /proc).
 */
import {
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export const LOCK_NAME = 'run.lock';

/** Another run holds the folder, or the folder cannot be written. */
export class RunLockError extends Error {
  override readonly name = 'RunLockError';
}

export interface RunLock {
  readonly file: string;
  /** Gives the folder free; removes it where it was made for the lock and nothing else is in it. May be called again. */
  release(): void;
}

interface Holder {
  readonly pid: number;
  readonly host: string;
  /** When the lock was taken (ISO 8601). */
  readonly started: string;
  /** The system's start mark of the process, null where it shows none. */
  readonly processStart: string | null;
}

/**
 * Takes the folder (created if missing) for this process until `release()` or the end of the process.
 *
 * @throws RunLockError naming the other process and what to do.
 */
export async function acquireRunLock(folder: string): Promise<RunLock> {
  const file = join(folder, LOCK_NAME);
  const ours: Holder = {
    pid: process.pid,
    host: hostname(),
    started: new Date().toISOString(),
    processStart: processStart(process.pid),
  };
  const text = `${JSON.stringify(ours)}\n`;
  const made = makeFolder(folder);
  try {
    for (let attempt = 0; attempt < 10; attempt++) {
      if (createLock(file, text)) return held(folder, made, file, text);
      const found = await readLock(file);
      if (found === null) continue; // given free in the meantime
      const holder = parseHolder(found);
      if (holder && !isGone(holder)) throw new RunLockError(describe(folder, file, holder));
      removeStale(file, found);
    }
    throw new RunLockError(
      `[run-lock] ${file} changes hands all the time: several runs want ${folder}. Give each its own.`,
    );
  } catch (error) {
    removeEmpty(folder, made);
    throw error;
  }
}

function held(folder: string, made: string | undefined, file: string, text: string): RunLock {
  const release = (): void => {
    process.removeListener('exit', release);
    if (readNow(file) !== text) return;
    rmSync(file, { force: true });
    removeEmpty(folder, made);
  };
  process.once('exit', release);
  return { file, release };
}

/** Returns the uppermost folder that it made, if any. */
function makeFolder(folder: string): string | undefined {
  try {
    return mkdirSync(folder, { recursive: true });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const reason = code === 'EEXIST' || code === 'ENOTDIR' ? 'a file is in the way' : (error as Error).message;
    throw new RunLockError(`[run-lock] cannot create the folder ${folder}: ${reason}. Choose another.`);
  }
}

/** Removes `folder` and those above it up to `made`, as far as they are empty. */
function removeEmpty(folder: string, made: string | undefined): void {
  if (made === undefined) return;
  try {
    for (let at = resolve(folder); ; at = dirname(at)) {
      rmdirSync(at);
      if (at === resolve(made)) return;
    }
  } catch {
    // something is in it
  }
}

function createLock(file: string, text: string): boolean {
  let descriptor: number;
  try {
    descriptor = openSync(file, 'wx');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw new RunLockError(
      `[run-lock] cannot write ${file}: ${(error as Error).message}. Make the folder writable or choose another.`,
    );
  }
  try {
    writeSync(descriptor, text);
  } catch (error) {
    rmSync(file, { force: true });
    throw new RunLockError(
      `[run-lock] cannot write ${file}: ${(error as Error).message}. Free space or choose another folder.`,
    );
  } finally {
    closeSync(descriptor);
  }
  return true;
}

/** The content of the lock file. One that is not whole is given a second: its owner may be just writing it. */
async function readLock(file: string): Promise<string | null> {
  for (let wait = 0; ; wait++) {
    const text = readNow(file);
    if (text === null || parseHolder(text) || wait === 10) return text;
    await sleep(100);
  }
}

function readNow(file: string): string | null {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new RunLockError(
      `[run-lock] cannot read ${file}: ${(error as Error).message}. Remove it if no run uses the folder.`,
    );
  }
}

function parseHolder(text: string): Holder | null {
  try {
    const { pid, host, started, processStart: start } = JSON.parse(text) as Record<string, unknown>;
    if (!Number.isSafeInteger(pid) || (pid as number) <= 0 || typeof host !== 'string') return null;
    return {
      pid: pid as number,
      host,
      started: typeof started === 'string' ? started : 'an unknown time',
      processStart: typeof start === 'string' ? start : null,
    };
  } catch {
    return null;
  }
}

/** Whether the process is surely gone; of another machine's process nothing can be known. */
function isGone(holder: Holder): boolean {
  if (holder.host !== hostname()) return false;
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
  const start = processStart(holder.pid);
  return start !== null && holder.processStart !== null && start !== holder.processStart;
}

/** Start time in clock ticks since boot: field 22 of /proc/PID/stat, counted behind the parenthesised name. */
function processStart(pid: number): string | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  } catch {
    return null;
  }
}

/**
 * Moves the stale lock out of the way. If another process was quicker and the file is now its fresh lock, it is put back.
 */
function removeStale(file: string, stale: string): void {
  const aside = `${file}.${process.pid}`;
  try {
    renameSync(file, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw new RunLockError(`[run-lock] cannot remove the stale lock ${file}: ${(error as Error).message}. Remove it.`);
  }
  try {
    if (readNow(aside) !== stale) linkSync(aside, file);
  } finally {
    rmSync(aside, { force: true });
  }
}

function describe(folder: string, file: string, { pid, host, started }: Holder): string {
  const here = host === hostname();
  const who = here && pid === process.pid ? 'this process itself' : `process ${pid} on ${host}`;
  const then = here
    ? 'Wait for it, stop it, or give this run another output folder.'
    : `Give this run another output folder; if that run is no longer alive, remove ${file}.`;
  return `[run-lock] ${folder} is in use by ${who} (since ${started}). ${then}`;
}

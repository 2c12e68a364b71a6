#!/usr/bin/env node
import { availableParallelism } from 'node:os';
import { run } from './program';

// Pictures are decoded on libuv's threads, four unless told otherwise before the first is used.
process.env.UV_THREADPOOL_SIZE ??= String(Math.max(4, availableParallelism()));

// A log that cannot be written, because its reader is gone or its disk full, must not end a run.
process.stderr.on('error', () => {});
// A reader of results that goes away early (`slimclr inspect … | head -1`) is no failure; a full disk is.
process.stdout.on('error', ({ code, message }: NodeJS.ErrnoException) => {
  if (code === 'EPIPE' || process.exitCode === 1) return;
  process.exitCode = 1;
  process.stderr.write(`error: cannot write to standard output: ${message}\n`);
});

void run(process.argv.slice(2), {
  out: (text) => void process.stdout.write(`${text}\n`),
  err: (text) => void process.stderr.write(`${text}\n`),
  terminal: process.stderr,
}).then((code) => {
  process.exitCode ??= code;
});

#!/usr/bin/env node
import { availableParallelism } from 'node:os';
import { run } from './program';

// Pictures are decoded on libuv's threads, four unless told otherwise before the first is used.
process.env.UV_THREADPOOL_SIZE ??= String(Math.max(4, availableParallelism()));

// A reader that goes away early (`slimclr inspect … | head -1`) is no failure.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit();
  });
}

void run(process.argv.slice(2), {
  out: (text) => void process.stdout.write(`${text}\n`),
  err: (text) => void process.stderr.write(`${text}\n`),
  terminal: process.stderr,
}).then((code) => {
  process.exitCode = code;
});

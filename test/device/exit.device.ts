// How a process ends that uses a CUDA device (npm run test:device).
import { expect } from 'chai';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { tsNode } from '../tensor/child';
import { device } from './compare';

describe(`a process with work on ${device}`, () => {
  for (const [how, code, what] of [
    ['exit', 7, 'ends by process.exit()'],
    ['end', 0, 'ends of itself'],
    ['throw', 1, 'ends by an exception'],
    ['worker', 0, 'ends after a worker thread that was terminated in the middle of work'],
  ] as const)
    it(what, () => {
      const words = [...tsNode, join(__dirname, 'exit-child.ts'), how];
      const { status, signal, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8', timeout: 60_000 });
      expect({ status, signal }, stderr).eql({ status: code, signal: null });
    });
});

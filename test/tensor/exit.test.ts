import { expect } from 'chai';
import { runChild } from './child';

describe('process.exit()', function () {
  this.timeout(120_000);
  for (const [where, args] of [
    ['work', []],
    ['a replay', ['recorded']],
  ] as const) {
    it(`in the middle of ${where} drops what waits, and ends the process with its code`, () => {
      for (let run = 0; run < 3; run++) {
        const { status, signal, stdout, stderr } = runChild('exit-child.ts', args);
        expect({ status, signal }, stderr).eql({ status: 7, signal: null });
        expect(stdout).to.match(/^\d+$/);
        expect(Number(stdout)).to.be.below(400);
      }
    });
  }
});

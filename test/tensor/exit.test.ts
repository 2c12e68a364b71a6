import { expect } from 'chai';
import { runChild } from './child';

describe('process.exit()', function () {
  this.timeout(120_000);
  it('in the middle of work ends the process with its code', () => {
    for (let run = 0; run < 6; run++) {
      const { status, signal, stderr } = runChild('exit-child.ts', []);
      expect({ status, signal }, stderr).eql({ status: 7, signal: null });
    }
  });
});

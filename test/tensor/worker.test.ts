import { expect } from 'chai';
import { runChild } from './child';

describe('worker threads', function () {
  this.timeout(180_000);
  it('use the addon at once, and may end in the middle of work', () => {
    const { status, signal, stdout, stderr } = runChild('worker-child.ts', [], { timeout: 170_000 });
    expect({ status, signal }, stderr).eql({ status: 0, signal: null });
    const { sent, ...outcome } = JSON.parse(stdout) as Record<string, unknown>;
    expect(outcome).eql({
      same: [true, true, true],
      exitCode: 3,
      thrown: ['thrown in the worker', 1],
      leaked: 0,
      still: true,
    });
    expect(sent, 'a tensor of another thread').match(
      /could not be cloned|expected x to be a tensor, received an object/,
    );
  });
});

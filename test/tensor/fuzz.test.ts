import { expect } from 'chai';
import { runChild } from './child';

interface Outcome {
  calls: number;
  settled: number;
  succeeded: Record<string, number>;
  untried: string[];
  unclear: string[];
}

describe('the native addon', function () {
  this.timeout(180_000);
  it('survives 20,000 calls with random arguments', () => {
    const { status, signal, stdout, stderr } = runChild('fuzz-child.ts', ['1', '20000'], { timeout: 170_000 });
    expect({ status, signal }, stderr).eql({ status: 0, signal: null });
    const outcome = JSON.parse(stdout) as Outcome;
    expect(outcome.calls).equal(20_000);
    expect(outcome.unclear, 'errors that name no op').eql([]);
    expect(outcome.untried, 'functions without plausible arguments in fuzz-child.ts').eql([]);
    expect(outcome.settled).above(100);
    const { NativeTensor: constructed, ...functions } = outcome.succeeded;
    expect(constructed, 'tensors constructed by JavaScript').equal(0);
    for (const [name, successes] of Object.entries(functions)) expect(successes, `successes of ${name}`).above(50);
  });
});

import { expect } from 'chai';
import { StepTimes } from '../../lib/train/step-times';

describe('the time of the last steps', () => {
  let now: number;
  const timed = (most: number) => {
    now = 100;
    const times = new StepTimes(most, () => now);
    const step = (ms: number) => {
      now += ms;
      times.add();
    };
    return { times, step };
  };

  it('is their mean, of so many of them', () => {
    const { times, step } = timed(3);
    step(10);
    expect(times.mean).to.equal(10);
    for (const ms of [20, 30, 40]) step(ms);
    expect(times.mean).to.equal(30);
  });

  it('leaves out what lies between steps: evaluations, checkpoints', () => {
    const { times, step } = timed(10);
    step(10);
    now += 5000;
    times.resume();
    step(30);
    expect(times.mean).to.equal(20);
  });

  it('begins anew where steps cost otherwise', () => {
    const { times, step } = timed(10);
    step(10);
    times.clear();
    step(30);
    expect(times.mean).to.equal(30);
  });
});

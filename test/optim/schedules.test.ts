import { expect } from 'chai';
import { cosineMomentum, learningRate, type LearningRateSchedule, LEARNING_RATE_MODES } from '../../lib/optim';

describe('learning-rate schedules', () => {
  const schedule = { lr: 0.4, steps: 100, warmupSteps: 10, milestones: [30, 60] } as const;

  it('warms up in equal steps from 1e-8 to the rate', () => {
    expect(learningRate(schedule, 0)).to.equal(1e-8);
    expect(learningRate(schedule, 5)).to.be.closeTo(0.2 + 0.5e-8, 1e-12);
    expect(learningRate(schedule, 10)).to.be.closeTo(0.4, 1e-12);
  });

  // By hand, half-way (step 55): cos ½·0.4; poly 0.4·½^0.9; htd 0.2·(1 - tanh(-1.5)); one milestone passed.
  for (const [mode, expected] of [
    ['cos', 0.2],
    ['poly', 0.21435469250725864],
    ['htd', 0.3810296507],
    ['step', 0.04],
  ] as const) {
    it(`decays by mode ${mode}`, () => {
      expect(learningRate({ ...schedule, mode }, 55)).to.be.closeTo(expected, 1e-9);
    });
  }

  it('ends at the floor and stays there', () => {
    expect(learningRate(schedule, 100)).to.equal(1e-8);
    expect(learningRate(schedule, 150)).to.equal(1e-8);
  });

  it('starts at the rate without warm-up, in every mode', () => {
    for (const mode of LEARNING_RATE_MODES) {
      expect(learningRate({ mode, lr: 0.1, steps: 10 }, 0), mode).to.be.closeTo(0.1, 1e-6);
    }
  });

  it('refuses a warm-up as long as the run', () => {
    expect(() => learningRate({ lr: 0.1, steps: 10, warmupSteps: 10 }, 0)).to.throw(
      RangeError,
      /steps > warmupSteps.*steps 10, warmupSteps 10/,
    );
  });

  it('refuses a mode that there is not', () => {
    const schedule = { lr: 1, steps: 10, mode: 'cosine' } as unknown as LearningRateSchedule;
    expect(() => learningRate(schedule, 1)).to.throw(RangeError, 'mode to be cos, poly, htd, step, received cosine');
  });
});

describe('encoder momentum', () => {
  it('rises from the base to 1 along a cosine', () => {
    expect(cosineMomentum(0.99, 0)).to.be.closeTo(0.99, 1e-12);
    expect(cosineMomentum(0.99, 0.5)).to.be.closeTo(0.995, 1e-12);
    expect(cosineMomentum(0.99, 1)).to.equal(1);
  });
});

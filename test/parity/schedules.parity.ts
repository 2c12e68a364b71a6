import { expect } from 'chai';
import { readFileSync } from 'node:fs';
import { cosineMomentum, learningRate, LEARNING_RATE_MODES } from '../../lib/optim';
import { goldenFiles, parityTests } from './goldens';

const TOLERANCE = 1e-7;

interface Schedules {
  init_lr: number;
  steps: number;
  warmup_steps: number;
  epochs: number;
  milestones: number[];
  moco_v3_momentum: number[];
  [mode: string]: number | number[];
}

parityTests('schedules', goldenFiles('', '.json'), (file) => {
  const golden = JSON.parse(readFileSync(file, 'utf8')) as Schedules;
  const { init_lr: lr, steps, warmup_steps: warmupSteps, epochs } = golden;
  const milestones = golden.milestones.map((epoch) => (epoch * steps) / epochs);
  for (const mode of LEARNING_RATE_MODES) {
    const expected = (golden[mode] ?? golden[mode.toUpperCase()]) as number[];
    expect(expected, `mode ${mode}`).to.have.length(steps);
    for (let t = 0; t < steps; t++) {
      const actual = learningRate({ mode, lr, steps, warmupSteps, milestones }, t);
      expect(actual, `mode ${mode}, step ${t}`).to.be.closeTo(expected[t], TOLERANCE);
    }
  }
  const [base] = golden.moco_v3_momentum;
  for (const [t, m] of golden.moco_v3_momentum.entries()) {
    expect(cosineMomentum(base, t / steps), `encoder momentum, step ${t}`).to.be.closeTo(m, TOLERANCE);
  }
});

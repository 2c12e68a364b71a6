/** The lowest learning rate, and the one that warm-up starts from. */
const FLOOR = 1e-8;

export const LEARNING_RATE_MODES = ['cos', 'poly', 'htd', 'step'] as const;
export type LearningRateMode = (typeof LEARNING_RATE_MODES)[number];

export interface LearningRateSchedule {
  /** `cos` (default), `poly` (power 0.9), `htd` (hyperbolic tangent, -6 to 3) or `step` (×0.1 at each milestone). */
  mode?: LearningRateMode;
  /** The rate at the end of warm-up. */
  lr: number;
  /** All steps of the run, warm-up included. */
  steps: number;
  /** Default 0. */
  warmupSteps?: number;
  /** Steps at which mode `step` multiplies the rate by 0.1. */
  milestones?: readonly number[];
}

/**
 * Learning rate of step t, counted from 0: t ≤ W: t/W·(lr - 1e-8) + 1e-8, then the mode's decay; never below 1e-8.
 * Computed from t alone, so a resumed run continues it.
 */
export function learningRate(schedule: LearningRateSchedule, t: number): number {
  const { mode = 'cos', lr, steps, warmupSteps = 0, milestones = [] } = schedule;
  if (!(lr > 0 && warmupSteps >= 0 && steps > warmupSteps)) {
    throw new RangeError(
      `[schedule] expected lr > 0 and steps > warmupSteps >= 0, ` +
        `received lr ${lr}, steps ${steps}, warmupSteps ${warmupSteps}; train longer or warm up less`,
    );
  }
  if (warmupSteps > 0 && t <= warmupSteps) return (t / warmupSteps) * (lr - FLOOR) + FLOOR;
  const progress = Math.min(1, (t - warmupSteps) / (steps - warmupSteps));
  return Math.max(FLOOR, lr * decay(mode, progress, milestones.filter((m) => t >= m).length));
}

function decay(mode: LearningRateMode, progress: number, passedMilestones: number): number {
  switch (mode) {
    case 'cos':
      return 0.5 * (1 + Math.cos(Math.PI * progress));
    case 'poly':
      return (1 - progress) ** 0.9;
    case 'htd':
      return 0.5 * (1 - Math.tanh(-6 + 9 * progress));
    case 'step':
      return 0.1 ** passedMilestones;
    default:
      throw new RangeError(
        `[schedule] expected mode to be ${LEARNING_RATE_MODES.join(', ')}, received ${String(mode)}`,
      );
  }
}

/**
 * MoCo v3's momentum of the key encoder, which rises from `base` to 1: m = 1 - ½(1 + cos(π·progress))(1 - base).
 * @param progress share of the run done, in [0, 1]
 */
export function cosineMomentum(base: number, progress: number): number {
  return 1 - 0.5 * (1 + Math.cos(Math.PI * progress)) * (1 - base);
}

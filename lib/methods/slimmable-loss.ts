import { add, concat, distill, noGrad, reshape, scale, type Tensor } from '../tensor';
import { lossWeights, type LossWeighting } from './loss-weights';
import type { StepLoss } from './method';

/**
 * What the full network teaches the sub-networks: its distribution over similarities or classes (`similarity`, the
 * paper's), its embeddings (`kd-features`, `mse-features`), its similarities or class scores themselves (`mse-logits`,
 * `atkd`, `dkd`), or nothing.
 */
export const DISTILLATIONS = [
  'similarity',
  'kd-features',
  'mse-features',
  'mse-logits',
  'atkd',
  'dkd',
  'none',
] as const;
export type Distillation = (typeof DISTILLATIONS)[number];

/** What a distillation compares, and how (lib/tensor/ops/distill.ts). */
const COMPARISONS = {
  similarity: { kind: 'kd', compares: 'logits' },
  'kd-features': { kind: 'kd', compares: 'embeddings' },
  'mse-features': { kind: 'mse', compares: 'embeddings' },
  'mse-logits': { kind: 'mse', compares: 'logits' },
  atkd: { kind: 'atkd', compares: 'logits' },
  dkd: { kind: 'dkd', compares: 'logits' },
} as const;

/** How the widths of a slimmable network are trained together: the settings that every method has. */
export interface SlimmableLossOptions {
  /** Default `similarity`. */
  distill?: Distillation;
  /** Softmax temperatures T_t and T_s of `similarity` and `kd-features`; the default is the method's. */
  teacherTemperature?: number;
  studentTemperature?: number;
  /** Weight a of distillation in a sub-network's loss: (1-a)·own + a·KD. Default 0.5. */
  aux?: number;
  /** All larger widths teach a sub-network, instead of the full network only. Default false. */
  fullDistill?: boolean;
  /** Default 5; see {@link lossWeights}. */
  lossWeighting?: LossWeighting;
}

/** What one width made of a batch. */
export interface WidthOutput {
  /** The method's own loss, a scalar. */
  loss: Tensor;
  /** Embeddings [N, D], of one length at every width. */
  embeddings: Tensor;
  /** Similarities or class scores [N, C]; asked for where the distillation compares them. */
  logits: () => Tensor;
  /** Class of the positive of each row, [N] int32. */
  positives: Tensor;
}

/**
 * The loss of a slimmable network: Σ_w λ_w·L_w with L_full = own loss, L_sub = (1-a)·own + a·KD, where the detached full
 * network is the teacher (paper, sections on online distillation and loss re-weighting).
 */
export class SlimmableLoss {
  readonly distill: Distillation;
  readonly teacherTemperature: number;
  readonly studentTemperature: number;
  readonly aux: number;
  readonly fullDistill: boolean;
  /** λ of every width. */
  readonly weights: readonly number[];

  /**
   * @param method named in errors
   * @param temperatures default T_t and T_s
   */
  constructor(method: string, widths: readonly number[], temperatures: number, options: SlimmableLossOptions) {
    const {
      distill: kind = 'similarity',
      teacherTemperature = temperatures,
      studentTemperature = temperatures,
      aux = 0.5,
      fullDistill = false,
      lossWeighting = 5,
    } = options;
    checkPositive(method, { teacherTemperature, studentTemperature });
    check(method, 'aux in [0, 1]', aux >= 0 && aux <= 1, aux);
    check(method, `distill ${DISTILLATIONS.join(', ')}`, DISTILLATIONS.includes(kind), kind);
    this.distill = kind;
    this.teacherTemperature = teacherTemperature;
    this.studentTemperature = studentTemperature;
    this.aux = aux;
    this.fullDistill = fullDistill;
    this.weights = lossWeights(widths, lossWeighting);
  }

  /** @param outputs of all widths, descending; of the full network alone during slow start, where its weight is 1 */
  combine(outputs: readonly WidthOutput[]): StepLoss {
    const weights = outputs.length === 1 ? [1] : this.weights;
    const losses = this.distill === 'none' ? outputs.map(({ loss }) => loss) : this.distilled(outputs, this.distill);
    return {
      loss: losses.map((loss, i) => scale(loss, weights[i])).reduce(add),
      perWidth: noGrad(() => concat(losses.map((loss) => reshape(loss, [1])))),
    };
  }

  private distilled(outputs: readonly WidthOutput[], name: Exclude<Distillation, 'none'>): Tensor[] {
    const [full, ...subs] = outputs;
    if (subs.length === 0) return [full.loss];
    const { teacherTemperature, studentTemperature, aux } = this;
    const { kind, compares } = COMPARISONS[name];
    const compared = outputs.map((output) => (compares === 'logits' ? output.logits() : output.embeddings));
    const distilled = subs.map(({ loss, positives }, sub) => {
      const teachers = compared.slice(0, this.fullDistill ? sub + 1 : 1);
      const options = { teacherTemperature, studentTemperature, positives };
      const kd = teachers.map((teacher) => distill(kind, compared[sub + 1], teacher, options)).reduce(add);
      return add(scale(loss, 1 - aux), scale(kd, aux / teachers.length));
    });
    return [full.loss, ...distilled];
  }
}

/**
 * What each width makes of a batch.
 * @param only where one width's gradient alone is wanted: the runs of the others are not recorded. Nothing flows between
 * widths, since teachers are detached.
 */
export function ofWidths<T>(widths: readonly number[], only: number | undefined, run: (widthIndex: number) => T): T[] {
  return widths.map((_, i) => (only === undefined || only === i ? run(i) : noGrad(() => run(i))));
}

/** The sum of the losses of both directions of a symmetric loss. */
export function sumLosses(a: StepLoss, b: StepLoss): StepLoss {
  return { loss: add(a.loss, b.loss), perWidth: noGrad(() => add(a.perWidth, b.perWidth)) };
}

/** @throws RangeError naming the method, what was expected and received */
export function check(method: string, expected: string, ok: boolean, received: unknown): void {
  if (!ok) throw new RangeError(`[${method}] expected ${expected}, received ${String(received)}`);
}

export function checkPositive(method: string, settings: Record<string, number>): void {
  for (const [name, t] of Object.entries(settings)) check(method, `${name} > 0`, t > 0 && t < Infinity, t);
}

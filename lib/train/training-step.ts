import type { StepLoss } from '../methods';
import { keep, record, scope, type Device, type Recording } from '../tensor';
import type { StepInput } from './views';

/**
 * The training step of one phase. The first call runs its ops one by one, which makes the gradients and what else
 * lasts; the second records them, and from then on they are replayed.
 */
export class TrainingStep {
  private ran = false;
  private recorded: { inputs: readonly StepInput[]; recording: Recording<StepLoss[]> } | null = null;

  /**
   * @param work from the inputs of a batch's parts, which are always of the same shapes, to weights updated and losses
   * @param eager never records
   */
  constructor(
    private readonly device: Device,
    private readonly work: (inputs: readonly StepInput[]) => StepLoss[],
    private readonly eager: boolean,
  ) {}

  /** Enqueues a step on the inputs that `load` makes. The losses are the caller's to dispose of. */
  run(load: () => readonly StepInput[]): StepLoss[] {
    return scope(() => {
      const inputs = load();
      if (this.eager || !this.ran) {
        this.ran = true;
        return this.work(inputs);
      }
      if (this.recorded) copy(inputs, this.recorded.inputs);
      else this.recorded = this.record(inputs);
      const { recording } = this.recorded;
      recording.replay();
      // Copies, because the next replay writes over what is read only later.
      return recording.result.map(({ loss, perWidth }) => ({ loss: loss.clone(), perWidth: perWidth.clone() }));
    });
  }

  dispose(): void {
    if (!this.recorded) return;
    const { inputs, recording } = this.recorded;
    this.recorded = null;
    recording.dispose();
    for (const { x, target } of inputs) for (const t of [x, target]) t.dispose();
    for (const { loss, perWidth } of recording.result) for (const t of [loss, perWidth]) t.dispose();
  }

  private record(inputs: readonly StepInput[]): NonNullable<typeof this.recorded> {
    const recording = record(() => this.work(inputs), this.device);
    for (const { x, target } of inputs) for (const t of [x, target]) keep(t);
    for (const { loss, perWidth } of recording.result) for (const t of [loss, perWidth]) keep(t);
    return { inputs, recording };
  }
}

function copy(from: readonly StepInput[], to: readonly StepInput[]): void {
  to.forEach(({ x, target }, i) => {
    x.copyFrom(from[i].x);
    target.copyFrom(from[i].target);
  });
}

import { native } from '../native';
import type { NativeRecording } from '../native-addon';
import { getDefaultDevice } from './device';
import { scope } from './scope';
import { withLastingGradients } from './tape';
import type { Device } from './tensor';

/** Work that a device does again and again without JavaScript. Made by {@link record}. */
export class Recording<T> {
  /** @internal Use {@link record}. */
  constructor(
    private readonly handle: NativeRecording,
    /** What the work returned: each replay writes its tensors anew. They are the caller's to dispose of. */
    readonly result: T,
  ) {}

  /**
   * Enqueues the work once more, in one piece; as ops do, it returns at once.
   * @throws RangeError where the number of threads has changed since the recording
   */
  replay(): void {
    native.replay(this.handle);
  }

  /**
   * Gives the memory of the work back; replays enqueued before still run. {@link result} keeps its values. Replaying
   * afterwards throws; disposing of it again does nothing.
   */
  dispose(): void {
    native.disposeRecording(this.handle);
  }
}

/**
 * Records what `work` enqueues on a device, without running it: on CUDA as a graph. Tensors that were there before are
 * read and written in place by each replay, so what differs from one to the next goes into such tensors; they stay in
 * memory for as long as the recording, even if disposed of. Numbers and shapes are those of the recording. Memory for
 * what is made within is the recording's own, `recordedBytes` of `memoryStats()`.
 *
 * Run the work once before: gradients that do not exist yet cannot be recorded, nor can values from JavaScript
 * (`tensor()`, `copyFrom()` of numbers), reading, or waiting. These throw, nothing is recorded then, and the device
 * goes on.
 *
 * @param work synchronous; runs in a {@link scope}
 */
export function record<T>(work: () => T, device: Device = getDefaultDevice()): Recording<T> {
  let result: { value: T } | undefined;
  const handle = native.record(device, () => {
    result = { value: withLastingGradients(() => scope(work)) };
  });
  return new Recording(handle, result!.value);
}

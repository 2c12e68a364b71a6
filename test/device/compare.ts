import { expect } from 'chai';
import { getDefaultDevice, scope, setDefaultDevice, tensor, type Device, type Tensor } from '../../lib/tensor';

/** The device that is compared with the CPU; the first CUDA device unless SLIMCLR_TEST_DEVICE names another. */
export const device = process.env['SLIMCLR_TEST_DEVICE'] ?? 'cuda:0';

/** Every run draws other inputs; SLIMCLR_TEST_SEED repeats one. */
export const seed = Number(process.env['SLIMCLR_TEST_SEED'] ?? Date.now() % 1_000_000);

/** float32 results may differ by this share of their norm, those in 16 bits by ten times as much. */
export const tolerance = { float32: 1e-3, bfloat16: 1e-2, float16: 1e-2 };

/** Fills what the device's allocator has cached, in every size up to a mebibyte, with NaNs. */
function poison(on: Device): void {
  scope(() => {
    for (let size = 128; size <= 1 << 18; size *= 2)
      for (let eighth = 8; eighth < 16; eighth++) {
        const nan = new Float32Array(Math.floor((size * eighth) / 8)).fill(NaN);
        for (let copy = 0; copy < 3; copy++) tensor(nan, [nan.length], { device: on });
      }
  });
}

type Numbers = Record<string, number[]>;

/** What `f` computes on a device, read back. */
function results(on: Device, f: () => Record<string, Tensor | null>): Numbers {
  const before = getDefaultDevice();
  setDefaultDevice(on);
  try {
    return scope(() =>
      Object.fromEntries(Object.entries(f()).map(([name, t]) => [name, t ? Array.from(t.dataSync(), Number) : []])),
    );
  } finally {
    setDefaultDevice(before);
  }
}

/** ‖actual − expected‖ / ‖expected‖; NaN where anything is not a number. */
export function relativeError(actual: readonly number[], expected: readonly number[]): number {
  let difference = 0;
  let norm = 0;
  expected.forEach((e, i) => {
    difference += ((actual[i] ?? NaN) - e) ** 2;
    norm += e ** 2;
  });
  return norm > 0 ? Math.sqrt(difference / norm) : Math.sqrt(difference);
}

/** The largest error of every comparison so far, for the table at the end. */
export const errors = new Map<string, number>();

/**
 * Computes `f` on the CPU and on the device, whose memory holds NaNs before, and compares every result.
 * @param most the share by which a result may differ; 0: not at all
 */
export function compare(name: string, most: number, f: () => Record<string, Tensor | null>): void {
  const expected = results('cpu', f);
  poison(device);
  const actual = results(device, f);
  for (const [key, values] of Object.entries(expected)) {
    const got = actual[key] ?? [];
    expect(got.length, `elements of ${key}`).equal(values.length);
    const error = relativeError(got, values);
    errors.set(name, Math.max(errors.get(name) ?? 0, Number.isNaN(error) ? Infinity : error));
    expect(error, `relative error of ${key} (SLIMCLR_TEST_SEED=${seed})`).to.be.at.most(most);
  }
}

import type { SlimmableResNet } from '../nn';
import { noGrad, scope, tensor, type Device } from '../tensor';

/** Rows of float32 on the host. */
export interface Rows {
  shape: [rows: number, columns: number];
  data: Float32Array<ArrayBuffer>;
}

/** Pictures per forward pass; bounds the memory. */
const batch = 256;

/**
 * Features and embeddings of pictures at one width.
 * @param encoder in evaluation mode
 * @param pictures normalised (see {@link normalisation}), [N, 3, H, W]
 * @returns `features` [N, C·w] of the backbone and `embedding` [N, dim] of the projector, not normalised
 * @throws RangeError for another shape, or a width that the network lacks
 */
export async function embed(
  encoder: SlimmableResNet,
  width: number,
  pictures: { shape: readonly number[]; data: Float32Array },
  device: Device,
): Promise<{ features: Rows; embedding: Rows }> {
  const { shape, data } = pictures;
  if (shape.length !== 4 || shape[1] !== 3 || shape.some((n) => n < 1)) {
    throw new RangeError(`[embed] expected x of shape [N, 3, H, W], received [${shape.join(', ')}]`);
  }
  const index = encoder.widths.indexOf(width);
  if (index < 0) throw new RangeError(`[embed] expected a width of ${encoder.widths.join(', ')}, received ${width}`);
  const [count, size] = [shape[0], data.length / shape[0]];
  const all = { features: new Array<Float32Array>(), embedding: new Array<Float32Array>() };
  for (let begin = 0; begin < count; begin += batch) {
    const end = Math.min(count, begin + batch);
    const outputs = scope(() =>
      noGrad(() => {
        const x = tensor(data.subarray(begin * size, end * size), [end - begin, ...shape.slice(1)], { device });
        return { features: encoder.features(x, index), embedding: encoder.forward(x, index) };
      }),
    );
    for (const name of ['features', 'embedding'] as const) {
      all[name].push((await outputs[name].data()) as Float32Array);
      outputs[name].dispose();
    }
  }
  return { features: joinRows(all.features, count), embedding: joinRows(all.embedding, count) };
}

function joinRows(parts: readonly Float32Array[], rows: number): Rows {
  const data = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    data.set(part, at);
    at += part.length;
  }
  return { shape: [rows, data.length / rows], data };
}

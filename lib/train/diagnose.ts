import type { Method } from '../methods';
import { fill, l2Normalize, noGrad, type Tensor } from '../tensor';
import { collapse, interference, sketch, type Collapse, type Interference } from './diagnostics';

/** What a diagnosis writes into the metrics. */
export interface Diagnosis {
  gradients: { total: Interference; parameters: Record<string, number>; layers: Record<string, Interference> };
  /** Of the batch's embeddings, by width. */
  embeddings: Record<string, Collapse>;
  /** {@link sketch} of the weights that the step begins with, by width: float32, little-endian, base64. */
  weights: Record<string, string>;
}

/**
 * Diagnoses the step that is about to be taken, and leaves all but the gradients as it was. Enqueues a step for every
 * width, in which all widths run forward and one backward, and one more forward pass; the results are read to the host,
 * where each width's gradients take as much memory as the parameters.
 *
 * @param widths how many take part: 1 during slow start
 * @param step computes the gradients of one width's term of the loss alone
 * @param x pictures [N, 3, H, W] for the embeddings
 * @returns what waits for the results and evaluates them
 */
export function diagnose(
  method: Method,
  widths: number,
  step: (only: number) => void,
  x: Tensor,
): () => Promise<Diagnosis> {
  const parameters = method.parameters();
  const shared = [...method.slices()].map(([name, slices]) => ({ name, slices, parameter: parameters.get(name)! }));
  const weights = shared.map(({ parameter }) => parameter.data() as Promise<Float32Array>);
  const indices = [...Array(widths).keys()];
  const gradients = indices.map((only) => {
    fill(
      [...parameters.values()].flatMap((p) => p.grad ?? []),
      0,
    );
    method.rehearse(() => step(only));
    // Asked for now, so read before the next pass writes: a stream works in order.
    return Promise.all(shared.map(({ parameter }) => parameter.grad!.data() as Promise<Float32Array>));
  });
  const embeddings = method.rehearse(() =>
    noGrad(() =>
      indices.map((i) => {
        const z = l2Normalize(method.encoder.forward(x, i));
        return { shape: z.shape, data: z.data() as Promise<Float32Array> };
      }),
    ),
  );
  return async () => {
    const byWidth = await Promise.all(gradients);
    const layers = shared.map(({ name, slices, parameter: { shape } }, l) => ({
      name,
      shape,
      slices,
      gradients: byWidth.map((ofWidth) => ofWidth[l]),
    }));
    const collapses = await Promise.all(
      embeddings.map(async ({ shape, data }, i) => [String(method.widths[i]), collapse(await data, shape)] as const),
    );
    const values = await Promise.all(weights);
    const sketches = sketch(
      layers.map((layer, l) => ({ ...layer, values: values[l] })),
      method.widths.length,
    );
    return {
      gradients: interference(layers, method.widths),
      embeddings: Object.fromEntries(collapses),
      weights: Object.fromEntries(sketches.map((s, i) => [method.widths[i], Buffer.from(s.buffer).toString('base64')])),
    };
  };
}

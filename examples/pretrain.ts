// What `slimclr quickstart` does, with the library: generates pictures, pre-trains one slimmable network on them without
// their labels, and evaluates every width.
//
//   npx ts-node examples/pretrain.ts [FOLDER] [EPOCHS] [PICTURES]
import { join } from 'node:path';
import { consoleReport, evaluateCheckpoint, loadEncoder, pretrain, writeShapes } from '../lib';

async function main(out = 'example-run', epochs = 12, pictures = 4000): Promise<void> {
  const data = join(out, 'pictures');
  await writeShapes(data, { count: pictures, testCount: Math.ceil(pictures / 4), seed: 0 });

  const { checkpoint, untrained, knn } = await pretrain(
    {
      data, // any folder with train/CLASS/* and test/CLASS/*; the classes serve the evaluation only
      arch: 'resnet20',
      widths: [1, 0.75, 0.5, 0.25],
      epochs,
      slowStart: epochs / 2, // the sub-networks join half-way
      batch: 64,
      queue: 512,
      cropMin: 0.4, // a view shows most of the shape
      grayP: 0.5, // half of the views have no colour to go by
      evalEvery: epochs,
    },
    { out, report: consoleReport() },
  );
  const { accuracy: linear } = await evaluateCheckpoint({ linear: {} }, { checkpoint, data });

  const { encoder } = await loadEncoder(checkpoint);
  console.table(
    encoder.widths.map((width, i) => ({
      width,
      parameters: encoder.cost(i, [32, 32]).backbone.parameters,
      'kNN untrained': untrained?.[width],
      kNN: knn?.[width],
      linear: linear[width],
    })),
  );
  encoder.dispose();
}

const [out, epochs, pictures] = process.argv.slice(2);
main(out, epochs ? Number(epochs) : undefined, pictures ? Number(pictures) : undefined).catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});

import type { Command } from 'commander';
import { floors } from './floors';
import { addSettings, width } from './options';
import type { Context } from './program';

const notes = `
The input holds a tensor "x" [N, 3, H, W] of float32: pictures as numbers from 0 to 1, less the mean, divided by the
standard deviation of the recipe that the network was trained with (red, green, blue):
  cifar    mean 0.4914 0.4822 0.4465   std 0.2023 0.1994 0.2010
  others   mean 0.485  0.456  0.406    std 0.229  0.224  0.225
The output holds "features" [N, C] of the backbone and "embedding" [N, dim] of the projector, not normalised.

Example:
  $ slimclr embed --checkpoint run/checkpoint.safetensors --width 0.25 --input x.safetensors --output y.safetensors`;

interface EmbedOptions {
  checkpoint: string;
  width: number;
  input: string;
  output: string;
  device?: string;
  threads?: number;
  json: boolean;
}

export function addEmbed(program: Command, { output: printer }: Context): void {
  const command = program
    .command('embed')
    .summary('features and embeddings of pictures, at one width')
    .description('Features and embeddings of pictures, at one width.')
    .requiredOption('--checkpoint <file>', "a run's checkpoint.safetensors, or an imported one")
    .option('--width <w>', 'width of the network to use', width, 1)
    .requiredOption('--input <file>', 'safetensors file with x')
    .requiredOption('--output <file>', 'safetensors file to write');
  addSettings(command, ['device', 'threads'])
    .option('--json', 'print the shapes as one JSON object', false)
    .addHelpText('after', notes)
    .action(async ({ checkpoint, width, input, output, device: name = 'auto', threads = 0, json }: EmbedOptions) => {
      const { embed, loadEncoder, prepareDevice } = floors.train();
      const { checkOutput, readSafetensors, writeSafetensors, toFloat32 } = floors.io();
      checkOutput(output, input, checkpoint);
      const x = (await readSafetensors(input, { names: ['x'] })).tensors.get('x')!;
      if (x.dtype !== 'F32') throw new TypeError(`[embed] ${input}: expected x of F32, found ${x.dtype}`);
      const { device } = prepareDevice({ device: name, threads, precision: 'fp32' });
      const { encoder } = await loadEncoder(checkpoint, device);
      try {
        const rows = await embed(encoder, width, { shape: x.shape, data: toFloat32(x) }, device);
        const tensors = Object.entries(rows).map(([key, row]) => [key, { dtype: 'F32', ...row }] as const);
        await writeSafetensors(output, tensors, { width: String(width) });
        const shapes = Object.fromEntries(tensors.map(([key, { shape }]) => [key, shape]));
        printer.err(`wrote ${output}: ${tensors.map(([key, { shape }]) => `${key} [${shape.join(', ')}]`).join(', ')}`);
        if (json) printer.out(JSON.stringify({ output, width, shapes }));
      } finally {
        encoder.dispose();
      }
    });
}

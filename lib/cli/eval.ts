import type { Command } from 'commander';
import { probeSchema, readProbe } from '../train/probe-config';
import { consoleReport } from '../train/report';
import { floors } from './floors';
import { addSettings, integerFrom, optionFor, optionsIn, temperature } from './options';
import { table } from './output';
import type { Context } from './program';
import { percent } from '../train/report';

interface EvalOptions {
  checkpoint: string;
  data: string;
  limit?: number;
  device?: string;
  threads?: number;
  json: boolean;
}

const notes = `
DIR holds train/CLASS/* and test/CLASS/*. Accuracies are top-1 shares of the test pictures, for every width; the network
is frozen, in evaluation mode, and checked to be unchanged.`;

export function addEval(program: Command, context: Context): void {
  const group = program
    .command('eval')
    .summary('accuracy of every width of a checkpoint: knn or linear')
    .description('Accuracy of every width of a checkpoint, on frozen features.')
    .addHelpText('after', notes);

  addCommon(group.command('knn'), 'Weighted k-nearest-neighbour classification of every width.')
    .option('--k <n>', 'neighbours that vote', integerFrom(1), 200)
    .option('--temperature <x>', 'temperature of their votes', temperature, 0.1)
    .addHelpText(
      'after',
      `${notes}\n\nExample:\n  $ slimclr eval knn --checkpoint run/checkpoint.safetensors --data photos --json`,
    )
    .action((options: EvalOptions & { k: number; temperature: number }) =>
      evaluate(context, options, 'knn', { knn: { k: options.k, temperature: options.temperature } }),
    );

  const linear = addCommon(group.command('linear'), 'Linear classifiers trained on frozen features, one per width.');
  linear.option('--config <file>', 'settings in a YAML or JSON file; options on the command line win over it');
  for (const schema of Object.values(probeSchema.shape)) linear.addOption(optionFor(schema));
  linear
    .addHelpText(
      'after',
      `${notes}

--views random is the paper's evaluation: the network computes the features of random crops anew in every epoch, so
that each epoch costs what --views center costs once. Ctrl-C ends it; nothing is kept.

Examples:
  $ slimclr eval linear --checkpoint run/checkpoint.safetensors --data photos
  $ slimclr eval linear --checkpoint run/checkpoint.safetensors --data photos --views random
  $ slimclr eval linear --config recipes/linear-moco-v2.yaml --checkpoint run/checkpoint.safetensors --data photos`,
    )
    .action((options: EvalOptions & { config?: string }) => {
      const file = options.config === undefined ? {} : readProbe(options.config);
      return evaluate(context, options, 'linear', { linear: { ...file, ...optionsIn(probeSchema, { ...options }) } });
    });
}

function addCommon(command: Command, description: string): Command {
  command
    .description(description)
    .requiredOption('--checkpoint <file>', "a run's checkpoint.safetensors, or an imported one")
    .requiredOption('--data <dir>', 'pictures in class folders');
  return addSettings(command, ['limit', 'device', 'threads']).option(
    '--json',
    'print the result as one JSON object',
    false,
  );
}

async function evaluate(
  { output }: Context,
  { checkpoint, data, limit, device, threads, json }: EvalOptions,
  name: 'knn' | 'linear',
  what: Parameters<ReturnType<typeof floors.train>['evaluateCheckpoint']>[0],
): Promise<void> {
  const where = { checkpoint, data, limit, device, threads, report: consoleReport(output.terminal) };
  const { accuracy, chance } = await floors.train().evaluateCheckpoint(what, where);
  if (json) {
    output.out(JSON.stringify({ [name]: accuracy, chance }));
    return;
  }
  output.out(
    table(
      ['width', name],
      Object.entries(accuracy).map(([width, share]) => [width, percent(share)]),
    ),
  );
  output.err(`chance: ${percent(chance)}`);
}

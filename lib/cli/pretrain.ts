import type { Command } from 'commander';
import { ConfigError, readSettings, settingNames } from '../train/config';
import { consoleReport, describeKnn } from '../train/report';
import { floors } from './floors';
import { addSettings, settingsOf } from './options';
import { shellWord } from './output';
import type { Context } from './program';

const notes = `
Settings may stand in a YAML or JSON file (--config), under the names of the options:
  arch: resnet20
  widths: [1, 0.75, 0.5, 0.25]
  slow-start: 10
Options on the command line win over the file.

OUT then holds config.json (the settings in full), metrics.jsonl (a line per log step, evaluation and diagnosis), the same
numbers for TensorBoard (tensorboard --logdir OUT) and checkpoint.safetensors, which is replaced only by a whole new one.

Pictures are JPEG, PNG or WebP. Files that cannot be decoded are named and left out; more than one in a hundred end the run.

--diagnose-every N adds a line every N steps: how strong the gradient is on what each width uses and on the remainder, the
cosines between the widths' own gradients, standard deviation and effective rank of the embeddings; "slimclr report"
draws them. A diagnosis costs two to three further steps: each width's gradient is computed alone, and all that this
changes is put back, so the weights come out the same to the last bit. It reads the parameters, and as large a gradient
for every width, to the host.

The second step of each phase (slow start, all widths) is recorded, as a graph on CUDA, and replayed from then on: the same
numbers, without JavaScript. The recording keeps the memory of a step, so evaluations and diagnoses take theirs beside it.
--eager runs every step op by op, for debugging. With --batch-norm-splits steps always run so.

Ctrl-C, SIGTERM or a closed terminal (SIGHUP) finishes the step, saves and exits with code 130; a second Ctrl-C or SIGTERM
quits at once. --resume goes on exactly from the last checkpoint, with the settings in OUT.

Examples:
  $ slimclr pretrain --data cifar10 --epochs 20 --slow-start 10 --limit 10000 --out run
  $ slimclr pretrain --config recipes/cifar10-cpu.yaml --data cifar10 --limit 10000 --out run
  $ slimclr pretrain --data imagenet --arch resnet50 --batch 256 --precision bf16 --out run
  $ slimclr pretrain --data photos --diagnose-every 50 --out run
  $ slimclr pretrain --out run --resume`;

/** Exit code of a run that was interrupted and saved, by whatever signal: the shell's for Ctrl-C. */
const interruptedCode = 130;

export function addPretrain(program: Command, context: Context): void {
  const { output } = context;
  const command = program
    .command('pretrain')
    .summary('pre-train a slimmable network on a folder of pictures, without labels')
    .description(
      'Pre-trains a slimmable network on a folder of pictures, without labels: SlimCLR on MoCo v2, MoCo v3 or SimCLR. ' +
        'For comparison also with labels (--method supervised).',
    )
    .requiredOption('--out <dir>', 'folder of the run')
    .option('--config <file>', 'settings in a YAML or JSON file')
    .option('--resume', 'go on with the run in --out', false)
    .option('--json', 'print the result as one JSON object', false);
  const details = settingNames.indexOf('recipe');
  addSettings(command.optionsGroup('Settings:'), settingNames.slice(0, details));
  addSettings(command.optionsGroup('Finer settings:'), settingNames.slice(details));
  command.optionsGroup('Help:');
  command.addHelpText('after', notes).action(async (options: Record<string, unknown>) => {
    const { out, config, resume, json } = options as { out: string; config?: string; resume: boolean; json: boolean };
    const settings = { ...(config === undefined ? {} : readSettings(config)), ...settingsOf(options) };
    if (!resume && settings.data === undefined) throw new ConfigError('[config] data is missing, give --data <dir>');
    const result = await interruptible(context, (signal) =>
      floors.train().pretrain(settings, { out, resume, signal, report: consoleReport(output.terminal) }),
    );
    if (result.interrupted) {
      tellInterrupted(context, out, result);
    } else {
      output.err(`done; checkpoint: ${result.checkpoint}`);
      if (!json && result.knn) output.out(describeKnn(result.knn, result.chance!));
    }
    if (json) output.out(JSON.stringify(result));
  });
}

/** Says how to go on with a run that was interrupted. */
export function tellInterrupted(
  { output, setExitCode }: Context,
  out: string,
  { step, steps }: { step: number; steps: number },
): void {
  output.err(`saved after step ${step} of ${steps}; go on with: slimclr pretrain --out ${shellWord(out)} --resume`);
  setExitCode(interruptedCode);
}

/** Runs `work` so that Ctrl-C, SIGTERM or a closed terminal asks it to stop, and a second Ctrl-C or SIGTERM quits at once. */
export async function interruptible<T>({ output }: Context, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const stop = () => {
    output.err('\nfinishing the step and saving; Ctrl-C again quits at once');
    controller.abort();
  };
  const onSignal = () => {
    if (controller.signal.aborted) process.exit(interruptedCode);
    stop();
  };
  // A terminal that closes may send it twice, by itself and by its shell.
  const onHangup = () => {
    if (!controller.signal.aborted) stop();
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal).on('SIGHUP', onHangup);
  try {
    return await work(controller.signal);
  } finally {
    // After an interruption the process is about to end: a second Ctrl-C must not find the system's handler.
    if (!controller.signal.aborted) process.off('SIGINT', onSignal).off('SIGTERM', onSignal).off('SIGHUP', onHangup);
  }
}

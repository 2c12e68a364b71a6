import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { readJsonl, type JsonRecord } from '../io';
import { networkCosts, type WidthCosts } from '../nn';
import { readSettings, resolveConfig, runFiles, type RunConfig, type Settings } from '../train';

/** A folder that a report cannot be made of. */
export class ReportError extends Error {
  override name = 'ReportError';
}

// What is no finite number is a gap in the plots: a loss may be NaN, and anything may stand in a file.
const value = z.unknown().transform((v) => (typeof v === 'number' && Number.isFinite(v) ? v : null));
const byName = z.record(z.string(), value);
const place = { step: z.number().min(0), epoch: z.number().min(0) };
const interference = z.object({ norm: byName, ratio: byName, cosine: byName });

const stepLine = z.object({ ...place, loss: value, losses: byName, lr: value });
const knnLine = z.object({ ...place, knn: byName });
const diagnosisLine = z.object({
  ...place,
  diagnosis: z.object({
    gradients: z.object({ total: interference, parameters: byName, layers: z.record(z.string(), interference) }),
    embeddings: z.record(z.string(), z.object({ std: value, rank: value })),
    weights: z.record(z.string(), z.string()),
  }),
});

const finite = z.array(z.number()).max(1000);
const landscapeFile = z
  .object({
    pictures: z.number(),
    step: z.number(),
    x: finite.min(3),
    y: finite.min(3),
    variance: z.array(z.number()).length(2),
    losses: z.record(z.string(), z.array(z.array(value))),
    final: byName,
    trajectory: z.array(z.object({ epoch: z.number(), x: z.number(), y: z.number() })).min(2),
  })
  .refine(({ x, y, losses }) =>
    Object.values(losses).every((rows) => rows.length === y.length && rows.every((row) => row.length === x.length)),
  );

export interface RunData {
  folder: string;
  config: RunConfig;
  steps: z.output<typeof stepLine>[];
  evaluations: z.output<typeof knnLine>[];
  diagnoses: z.output<typeof diagnosisLine>[];
  /** What slimclr landscape computed; null where it has not. */
  landscape: z.output<typeof landscapeFile> | null;
  /** By width; null where the network cannot be made. */
  costs: Record<string, WidthCosts> | null;
  /** What a reader should know of the files, in sentences. */
  remarks: string[];
}

/**
 * Reads what a run left in its folder: `config.json` and `metrics.jsonl`, finished or not.
 * @throws ReportError, ConfigError, JsonlError where the files are missing, damaged or of something else
 */
export function readRun(folder: string): RunData {
  const [configFile, metricsFile] = [join(folder, runFiles.config), join(folder, runFiles.metrics)];
  for (const file of [configFile, metricsFile]) {
    if (!existsSync(file)) {
      throw new ReportError(`[report] ${file} does not exist; give the folder of a run, the --out of slimclr pretrain`);
    }
  }
  const config = completeConfig(configFile);
  const remarks: string[] = [];
  const records = readJsonl(metricsFile);
  let misshapen = 0;
  const linesWith = <T extends z.ZodType<{ step: number }>>(key: string, schema: T): z.output<T>[] =>
    records
      .filter((record) => Object.hasOwn(record, key))
      .flatMap((record: JsonRecord) => {
        const { success, data } = schema.safeParse(record);
        if (!success) misshapen++;
        return success ? [data] : [];
      })
      .sort((a, b) => a.step - b.step);
  const [steps, evaluations, diagnoses] = [
    linesWith('loss', stepLine),
    linesWith('knn', knnLine),
    linesWith('diagnosis', diagnosisLine),
  ];
  if (misshapen > 0) remarks.push(`${misshapen} of the ${records.length} lines in metrics.jsonl could not be used.`);
  if (steps.length === 0) remarks.push('No step has been logged yet.');

  let costs: RunData['costs'] = null;
  try {
    costs = costsOf(config);
  } catch (error) {
    remarks.push(`Parameters and MACs are missing: ${(error as Error).message}`);
  }
  const landscape = readLandscape(join(folder, runFiles.landscape), remarks);
  return { folder, config, steps, evaluations, diagnoses, landscape, costs, remarks };
}

function readLandscape(file: string, remarks: string[]): RunData['landscape'] {
  if (!existsSync(file)) return null;
  try {
    const { success, data } = landscapeFile.safeParse(JSON.parse(readFileSync(file, 'utf8')));
    if (success) return data;
  } catch {
    // told below
  }
  remarks.push(`${runFiles.landscape} could not be used; make it anew with slimclr landscape.`);
  return null;
}

function completeConfig(file: string): RunConfig {
  const settings = readSettings(file) as Settings;
  const open = (['image', 'stem', 'baseWidth', 'dim', 'slowStart'] as const).filter((name) => settings[name] == null);
  if (open.length > 0) {
    throw new ReportError(
      `[report] ${file} lacks ${open.join(', ')}; give the config.json that slimclr pretrain wrote`,
    );
  }
  return resolveConfig(settings, settings.image!);
}

function costsOf({ arch, widths, baseWidth, stem, head, dim, mlpDim, image }: RunConfig): Record<string, WidthCosts> {
  return networkCosts({ arch, widths, baseWidth, stem, head, outDim: dim, mlpDim: mlpDim || undefined }, image);
}

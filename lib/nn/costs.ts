import type { Cost } from './module';
import { SlimmableResNet, type ResNetOptions } from './resnet';

export interface WidthCosts extends Cost {
  backbone: Cost;
  /** Length of the pooled features. */
  features: number;
}

/** By width: parameters and MACs for a picture of `image` pixels each way, in total and of the backbone. */
export function networkCosts(options: ResNetOptions, image: number): Record<string, WidthCosts> {
  const network = new SlimmableResNet(options);
  try {
    return Object.fromEntries(
      network.widths.map((width, i) => {
        const { backbone, head } = network.cost(i, [image, image]);
        const [parameters, macs] = [backbone.parameters + head.parameters, backbone.macs + head.macs];
        return [String(width), { parameters, macs, backbone, features: network.featureDims[i] }];
      }),
    );
  } finally {
    network.dispose();
  }
}

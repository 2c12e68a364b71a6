# node-gyp compiles nothing itself: it hands over to the CMake build, which writes build/Release/slimclr.node.
{
  'targets': [
    {
      'target_name': 'slimclr',
      'type': 'none',
      'actions': [
        {
          'action_name': 'cmake',
          'inputs': [],
          # Never written, so that each `node-gyp build` asks CMake, which knows what is stale.
          'outputs': ['<(INTERMEDIATE_DIR)/always'],
          'action': ['node', '<(module_root_dir)/scripts/build-native.js'],
        },
      ],
    },
  ],
}

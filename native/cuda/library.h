// NVIDIA's libraries, loaded at run time, so that the addon starts on machines without them.
#pragma once

#include <string>
#include <vector>

namespace slimclr::cuda {

class Library {
 public:
  // The first of the files that loads; stays loaded. Throws with the way out where none does.
  Library(const char* what, const std::vector<std::string>& files);

  template <typename Function>
  void load(Function*& function, const char* name) const {
    function = reinterpret_cast<Function*>(symbol(name));
  }

 private:
  void* symbol(const char* name) const;

  const char* what_;
  void* handle_;
};

// Where a library may lie: by its name alone, in the folders of an environment variable (lib, lib64), in the folder
// where the build found it.
std::vector<std::string> places(const std::string& name, const std::vector<const char*>& variables,
                                const std::string& built_with);

}  // namespace slimclr::cuda

#include "cuda/library.h"

#include <dlfcn.h>

#include <cstdlib>

#include "core/error.h"

namespace slimclr::cuda {

Library::Library(const char* what, const std::vector<std::string>& files) : what_(what), handle_(nullptr) {
  std::string reasons;
  for (const std::string& file : files) {
    handle_ = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_) return;
    const char* reason = dlerror();
    reasons += concat("\n  ", reason ? reason : file);
  }
  fail(ErrorKind::runtime, "device", what, " cannot be loaded:", reasons, "\nInstall it, or name its folder in ",
       "LD_LIBRARY_PATH");
}

void* Library::symbol(const char* name) const {
  void* found = dlsym(handle_, name);
  if (!found) fail(ErrorKind::runtime, "device", what_, " has no ", name, ": another version is needed");
  return found;
}

std::vector<std::string> places(const std::string& name, const std::vector<const char*>& variables,
                                const std::string& built_with) {
  std::vector<std::string> files;
  for (const char* variable : variables)
    if (const char* root = std::getenv(variable); root && *root)
      for (const char* folder : {"/lib/", "/lib64/"}) files.push_back(root + (folder + name));
  files.push_back(name);
  if (!built_with.empty()) files.push_back(built_with + "/" + name);
  return files;
}

}  // namespace slimclr::cuda

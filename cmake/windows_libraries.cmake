# The libraries of a Windows build, out of Debian's packages: nlohmann-json3-dev, libspdlog-dev and libfmt-dev, which are
# headers only where one asks for it, and the sources of GoogleTest.
#
# Their headers stand in /usr/include among those of Linux, of which a Windows compiler must not see one. So it sees a
# directory with three links instead.
set(links ${CMAKE_BINARY_DIR}/include)
file(MAKE_DIRECTORY ${links})
foreach(library fmt nlohmann spdlog)
  if(NOT EXISTS /usr/include/${library})
    message(FATAL_ERROR "There is no /usr/include/${library}: tools/install-packages.sh windows")
  endif()
  file(CREATE_LINK /usr/include/${library} ${links}/${library} SYMBOLIC)
endforeach()

add_library(nlohmann_json::nlohmann_json INTERFACE IMPORTED)
target_include_directories(nlohmann_json::nlohmann_json SYSTEM INTERFACE ${links})

add_library(spdlog::spdlog INTERFACE IMPORTED)
target_include_directories(spdlog::spdlog SYSTEM INTERFACE ${links})
target_compile_definitions(spdlog::spdlog INTERFACE FMT_HEADER_ONLY SPDLOG_FMT_EXTERNAL)

if(PENSTOCK_TESTS)
  # As it comes, without our warnings: this file is included before they are set.
  add_subdirectory(/usr/src/googletest ${CMAKE_BINARY_DIR}/googletest EXCLUDE_FROM_ALL)
endif()

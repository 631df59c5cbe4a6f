# Puts the page's pieces together and writes them as one C++ text: cmake -D FOLDER=... -D OUTPUT=... -P embed_page.cmake
file(READ ${FOLDER}/page.html html)
file(READ ${FOLDER}/page.css css)
set(js "")
foreach(piece IN ITEMS text markdown store chat live main)
  file(READ ${FOLDER}/${piece}.js text)
  string(APPEND js "${text}")
endforeach()
string(REPLACE "/* page.css */" "${css}" html "${html}")
string(REPLACE "/* scripts */" "'use strict';\n(() => {\n${js}})();\n" html "${html}")
# A compiler takes string literals of any length, but not every tool does: pieces of some thousand bytes.
string(LENGTH "${html}" length)
set(literals "")
set(at 0)
while(at LESS length)
  string(SUBSTRING "${html}" ${at} 4000 piece)
  string(APPEND literals "    R\"~page~(${piece})~page~\"\n")
  math(EXPR at "${at} + 4000")
endwhile()
file(WRITE ${OUTPUT} "// Generated from cli/http/page.\n#include <cstddef>\nnamespace consort::cli {\n"
  "extern const char* const kPageText;\nextern const std::size_t kPageBytes;\n"
  "static constexpr char kText[] =\n${literals};\n"
  "const char* const kPageText = kText;\nconst std::size_t kPageBytes = sizeof kText - 1;\n}  // namespace consort::cli\n")

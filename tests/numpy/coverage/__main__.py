"""Write the table of coverage again."""

from tests.numpy.coverage.table import PATH, text

PATH.write_text(text())
print(PATH)

"""What can be done with kompyct from the command line?"""

import sys

from kompyct.commands import main

if __name__ == "__main__":
    sys.exit(main())
